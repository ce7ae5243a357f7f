"""`spare proxy`: HTTP clients before a cell that may lose a server."""

import contextlib
import socket
from typing import TYPE_CHECKING

import click

from replica_manager import event_loop
from replica_manager.control.cli.options import Settings, config_option
from replica_manager.control.cli.output import progress

if TYPE_CHECKING:
    from replica_manager.client.proxy_server import ProxySettings
    from replica_manager.config import Config
    from replica_manager.config_addresses import Address


@click.command()
@click.option("--listen", "listen", required=True, metavar="ADDRESS:PORT", help="Where HTTP clients connect.")
@click.option(
    "--inside",
    is_flag=True,
    help="Listen inside the network of the cell's clients (one-machine cells with namespaces), not on this machine.",
)
@click.option(
    "--deadline-s",
    type=click.FloatRange(1, 3600),
    default=30.0,
    show_default=True,
    help="A request that no server has answered by then is given up: 503 if it was surely not executed, else 504.",
)
@click.option("--connections-max", type=click.IntRange(1, 1_000_000), default=8192, show_default=True)
@click.option(
    "--requests-max",
    type=click.IntRange(1, 1_000_000),
    default=2048,
    show_default=True,
    help="Requests under way; more are answered 503.",
)
@config_option
@click.pass_obj
def proxy(
    settings: Settings, listen: str, inside: bool, deadline_s: float, connections_max: int, requests_max: int
) -> None:
    """Serve HTTP to unmodified clients, and repeat their requests to another server when one dies.

    Runs in the foreground until Ctrl-C or SIGTERM, best beside the clients.  Speaks the framed protocol to the
    cell's servers, so a request is executed at most once however often it is repeated.  The cell has
    `[service] listen = "http"`, or a service that takes HTTP requests as payloads.

    What a client sees: 503 with Retry-After means surely not executed; 502, executed, but the reply is lost;
    504, unknown.
    """
    config = settings.load()
    address = _parsed(listen)
    proxied = _settings(config, deadline_s, connections_max, requests_max)
    from replica_manager.client.proxy_server import run_proxy

    with contextlib.ExitStack() as stack:
        here = None if inside else stack.enter_context(_bind(address))
        _enter_clients_network(config, is_needed=inside)
        event_loop.run(run_proxy(proxied, here or stack.enter_context(_bind(address)), progress()))


def _parsed(text: str) -> "Address":
    from replica_manager.config_addresses import parse_address

    try:
        return parse_address(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--listen") from error


def _settings(config: "Config", deadline_s: float, connections_max: int, requests_max: int) -> "ProxySettings":
    from replica_manager.client.errors import NoFramedPort
    from replica_manager.client.failover_values import FailoverSettings
    from replica_manager.client.proxy_server import ProxySettings
    from replica_manager.member_addresses import framed_address
    from replica_manager.server_settings import request_bytes_max

    addresses = [found for server in config.server if (found := framed_address(config, server.id)) is not None]
    if not addresses:
        raise NoFramedPort(config.cell.name)
    return ProxySettings(
        addresses,
        request_bytes_max(config),
        connections_max,
        FailoverSettings(deadline_ms=round(deadline_s * 1000), open_requests_max=requests_max),
    )


def _bind(address: "Address") -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
    except OSError as error:
        listening.close()
        place = f"{address.host}:{address.port}"
        raise click.ClickException(f"{place} cannot be opened: {error.strerror or error}") from error
    return listening


def _enter_clients_network(config: "Config", *, is_needed: bool) -> None:
    """Move this process to where the cell's clients are; the socket that it listens on stays where it was made."""
    if config.cell.kind != "one-machine" or config.cell.network != "namespaces":
        if is_needed:
            raise click.UsageError("--inside: the cell has no network namespaces")
        return
    from replica_manager.client.errors import CellNotHere
    from replica_manager.network import namespaces
    from replica_manager.network.address_plan import namespace_name

    name = namespace_name(config.cell.name, "clients")
    if not namespaces.exists(name):
        raise CellNotHere(config.cell.name)
    namespaces.enter(name)
