"""Entry point of a domain that runs RUBiS: starts the tiers over the image's database and serves the wrapper protocol.

`python3 -m rubis_adapter.guest --link virtio:NAME --image NAME --database mariadb --data-dir DIR --run-dir DIR`
"""

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from exec_wrapper.main import run
from exec_wrapper.service_adapter import ServiceAdapter
from rubis_adapter.adapter import RubisAdapter
from rubis_adapter.databases import open_engine
from rubis_adapter.errors import RubisError
from rubis_adapter.tiers.service_processes import DatabaseKind, ServiceConfiguration, ServiceProcesses

FAILURE_EXIT_CODE: Final = 1

Serve = Callable[[ServiceAdapter, str, str], int]
"""Serves an adapter over a link, as `exec_wrapper.main.run` does."""


class ReplicaOfRubis:
    """The tiers and the adapter of one replica, started and stopped together."""

    def __init__(self, configuration: ServiceConfiguration) -> None:
        """Starts nothing yet."""
        self._update_socket = configuration.run_dir / "updates" / "updates.sock"
        self.processes = ServiceProcesses(configuration, self._update_socket)
        self._adapter: RubisAdapter | None = None

    @property
    def adapter(self) -> RubisAdapter:
        """The adapter of a started replica."""
        assert self._adapter is not None, "not started"
        return self._adapter

    def start(self) -> None:
        """Starts the tiers, then opens the adapter.  Raises `ProcessFailed`, `MissingProgram`."""
        self.processes.start()
        self.open_adapter()

    def open_adapter(self) -> RubisAdapter:
        """Opens an adapter over running tiers; one that is open is closed before."""
        self.close_adapter()
        account = self.processes.web_account
        account.own_directory(self._update_socket.parent)
        engine = open_engine(self.processes.database.administrator_url())
        self._adapter = RubisAdapter(engine, self.processes.web.socket, self._update_socket, account)
        return self._adapter

    def close_adapter(self) -> None:
        """Closes the adapter and leaves the tiers running."""
        if self._adapter is not None:
            self._adapter.close()
            self._adapter = None

    def stop(self) -> None:
        """Stops everything in order."""
        self.close_adapter()
        self.processes.stop()

    def kill(self) -> None:
        """Ends all tiers at once."""
        self.close_adapter()
        self.processes.kill()


def main(arguments: Sequence[str] | None = None, serve: Serve = run) -> int:
    """Runs until the service fails or the domain is destroyed; returns the exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(name)s: %(message)s")
    options = _parser().parse_args(arguments)
    configuration = ServiceConfiguration(
        options.database, options.data_dir, options.run_dir, options.cache_mib, options.web_account, is_bound=True
    )
    replica = ReplicaOfRubis(configuration)
    signal.signal(signal.SIGTERM, _end)
    try:
        replica.start()
        return serve(replica.adapter, options.link, options.image)
    except RubisError as error:
        logging.getLogger("rubis_adapter").error("%s", error)
        return FAILURE_EXIT_CODE
    finally:
        replica.stop()


def _end(_signal: int, _frame: object) -> None:
    """Lets `main` stop the tiers in order."""
    raise SystemExit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rubis_adapter.guest", description="Run one replica of RUBiS in a domain.")
    parser.add_argument("--link", required=True, help="how the replica manager is reached; see exec_wrapper")
    parser.add_argument("--image", default="", help="name of the image that this domain was booted from")
    parser.add_argument("--database", type=DatabaseKind, choices=list(DatabaseKind), default=DatabaseKind.MARIADB)
    parser.add_argument("--data-dir", type=Path, required=True, help="the database's files, made with the image")
    parser.add_argument("--run-dir", type=Path, required=True, help="for sockets and logs; a short path")
    parser.add_argument("--cache-mib", type=int, default=32, help="page cache of the database")
    parser.add_argument("--web-account", help="who runs web and application server (default: this process's account)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
