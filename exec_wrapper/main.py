"""Starts a wrapper, from the command line or from a program that embeds it."""

import argparse
import importlib
import logging
import sys
from typing import List, Optional, Sequence

from exec_wrapper.errors import UsageError
from exec_wrapper.host_link import HostLink
from exec_wrapper.links import open_link
from exec_wrapper.service_adapter import ServiceAdapter

FACTORY_DEFAULT = "create_adapter"
USAGE_EXIT_CODE = 2


def run(adapter: ServiceAdapter, link_spec: str, image: str) -> int:
    """Serve `adapter` until it fails.

    Args:
        adapter: the service.
        link_spec: see `links.open_link`.
        image: name of the image that this domain was booted from; empty outside of images.

    Returns:
        The exit code of the process; never 0, because a wrapper ends by failing or by being killed.

    Raises:
        UsageError: `link_spec` names no link, or one that cannot be opened.
    """
    return HostLink(adapter, open_link(link_spec), image).serve()


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command line; return the exit code: 1 the service failed, 2 usage."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(name)s: %(message)s")
    options = _parser().parse_args(arguments)
    try:
        adapter = load_adapter(options.adapter, options.arguments)
        return run(adapter, options.link, options.image)
    except UsageError as error:
        sys.stderr.write("exec_wrapper: %s\n" % error)
        return USAGE_EXIT_CODE


def load_adapter(name: str, arguments: List[str]) -> ServiceAdapter:
    """Return what the factory `MODULE[:FACTORY]` makes of `arguments`.

    Raises:
        UsageError: there is no such module or factory.
    """
    module_name, _, factory_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UsageError("cannot import the adapter module %r: %s" % (module_name, error)) from error
    factory = getattr(module, factory_name or FACTORY_DEFAULT, None)
    if factory is None:
        raise UsageError("the module %r has no function %r" % (module_name, factory_name or FACTORY_DEFAULT))
    adapter: ServiceAdapter = factory(arguments)
    return adapter


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="exec_wrapper", description="Run a service in a domain of a cell.")
    parser.add_argument(
        "--link",
        required=True,
        help="virtio:NAME, unix:PATH, tcp:HOST:PORT, fd:NUMBER, unix-connect:PATH or tcp-connect:HOST:PORT",
    )
    parser.add_argument("--image", default="", help="name of the image that this domain was booted from")
    parser.add_argument("adapter", metavar="MODULE[:FACTORY]", help="called with the remaining arguments")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="…", help="for the factory")
    return parser
