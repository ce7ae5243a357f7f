"""The wrapper of one domain that is hostile: garbage before it echoes, a real wrapper's answers for a while, garbage.

    python -m tests.fuzz.hostile_wrapper --channel PATH --domain s1.g1 --hostile s1.g1 --mutants 10000 --seed 1
        --go FILE ADAPTER

Of every other domain it becomes an ordinary wrapper.  Once FILE exists it sends garbage until it is cut off.
"""

import argparse
import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

from exec_wrapper.errors import WrapperError
from exec_wrapper.framing import decode_from_wrapper
from exec_wrapper.wire import WireError
from tests.fuzz import corpus
from tests.fuzz.mutations import Mutator

POLL_S = 0.05
PIECE_BYTES = 64 * 1024
START_TIMEOUT_S = 60.0


def main() -> int:
    """Run; return the exit code."""
    options = _options()
    wrapper = [sys.executable, "-m", "exec_wrapper", "--link", "", options.adapter]
    if options.domain != options.hostile:
        wrapper[4] = f"unix:{options.channel}"
        os.execv(wrapper[0], wrapper)
    behind = options.channel.with_suffix(".real")
    wrapper[4] = f"unix:{behind}"
    mutator = Mutator(corpus.from_wrapper_stream(), options.seed)
    garbage = b"".join(mutator.mutant() for _ in range(options.mutants))
    with socket.socket(socket.AF_UNIX) as listener, subprocess.Popen(wrapper) as child:
        listener.bind(str(options.channel))
        listener.listen(1)
        try:
            _carry(listener, behind, garbage, options.go, mutator)
        finally:
            child.kill()
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channel", type=Path, required=True)
    parser.add_argument("--domain", required=True)
    parser.add_argument("--hostile", required=True)
    parser.add_argument("--mutants", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--go", type=Path, required=True)
    parser.add_argument("adapter")
    return parser.parse_args()


def _carry(listener: socket.socket, behind: Path, garbage: bytes, go: Path, mutator: Mutator) -> None:
    """Serve one connection of the manager until it ends."""
    manager, _ = listener.accept()
    with manager, socket.socket(socket.AF_UNIX) as real:
        _connect(real, behind)
        # The manager is still waiting for its echo: what comes first is of a former connection, and is discarded.
        manager.sendall(garbage)
        while not go.exists():
            ready, _, _ = select.select([manager, real], [], [], POLL_S)
            for source in ready:
                data = source.recv(PIECE_BYTES)
                if not data:
                    return
                (real if source is manager else manager).sendall(data)
        with contextlib.suppress(OSError):
            while True:
                manager.sendall(_refused(mutator))


def _connect(real: socket.socket, path: Path) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            real.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            if time.monotonic() > deadline_s:
                raise
            time.sleep(POLL_S)
        else:
            return


def _refused(mutator: Mutator) -> bytes:
    """Return a mutant that no manager takes for frames; a lie in good form is another matter, settled by votes."""
    while True:
        mutant = mutator.mutant()
        try:
            if not decode_from_wrapper().feed(mutant):
                continue
        except (WireError, WrapperError) as error:
            if not getattr(error, "messages", ()):
                return mutant


if __name__ == "__main__":
    sys.exit(main())
