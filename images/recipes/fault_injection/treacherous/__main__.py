"""`python3 -m treacherous --domain NAME [--orders-file FILE] PROGRAM ARGUMENT…`.

PROGRAM is `exec_wrapper`, with its usual arguments, or the module of another program that serves an adapter: its
`main(arguments, serve)` calls `serve(adapter, link, image)` instead of `exec_wrapper.main.run`.
"""

import argparse
import importlib
import logging
import sys
from functools import partial
from pathlib import Path
from typing import Callable, List, Optional, Sequence

from exec_wrapper.errors import UsageError
from exec_wrapper.host_link import HostLink
from exec_wrapper.links import open_link
from exec_wrapper.main import USAGE_EXIT_CODE, load_adapter
from exec_wrapper.service_adapter import ServiceAdapter

from .channel_faults import TreacherousLink
from .order_file import OrderFile
from .service_faults import TreacherousAdapter
from .treachery import Treachery

Serve = Callable[[ServiceAdapter, str, str], int]
"""Adapter, link and name of the image; returns the exit code when the adapter fails."""


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run until the service fails, or is told to; return the exit code."""
    options = _parser().parse_args(arguments)
    serve = partial(run, domain=options.domain, orders=OrderFile(options.orders_file))
    if options.program == "exec_wrapper":
        return wrapper_main(options.arguments, serve)
    program = importlib.import_module(options.program)
    exit_code: int = program.main(options.arguments, serve)
    return exit_code


def run(adapter: ServiceAdapter, link_spec: str, image: str, domain: str, orders: OrderFile) -> int:
    """Serve `adapter` treacherously until it fails; the counterpart of `exec_wrapper.main.run`."""
    treachery = Treachery(domain)
    treacherous = TreacherousAdapter(adapter, treachery, orders)
    return HostLink(treacherous, TreacherousLink(open_link(link_spec), treachery), image).serve()


def wrapper_main(arguments: List[str], serve: Serve) -> int:
    """Run with the command line of `exec_wrapper`."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(name)s: %(message)s")
    parser = argparse.ArgumentParser(prog="treacherous … exec_wrapper")
    parser.add_argument("--link", required=True)
    parser.add_argument("--image", default="")
    parser.add_argument("adapter", metavar="MODULE[:FACTORY]")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    try:
        return serve(load_adapter(options.adapter, options.arguments), options.link, options.image)
    except UsageError as error:
        sys.stderr.write("treacherous: %s\n" % error)
        return USAGE_EXIT_CODE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="treacherous", description="A wrapper that misbehaves when it is told to.")
    parser.add_argument("--domain", required=True, help="name of this domain, such as s0.g1")
    parser.add_argument("--orders-file", type=Path, help="where to keep orders over a restart")
    parser.add_argument("program", metavar="PROGRAM", help="exec_wrapper, or a module such as rubis_adapter.guest")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="…", help="for the program")
    return parser


if __name__ == "__main__":
    sys.exit(main())
