"""The networks of a cell that lives on one machine: a network namespace per place, two switches between them.

    spare-<cell>-switch      bridge public  ─┬─ s0-public  ─┬─ s1-public  ─ … ─── clients-public
                             bridge private ─┼─ s0-private ─┼─ s1-private ─ … ─── w0-private …
    spare-<cell>-s0          bridge public  ─┘ (10.77.0.10) │        spare-<cell>-clients  device public
                             bridge private ───(10.78.0.10)─┘        spare-<cell>-w0       device private

A server looks as on a host of its own: a public and a private bridge, each with one card, on which only the privileged
domain has an address.  Nothing appears in the machine's own namespace: cables are made with both ends in place.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from replica_manager.config import Config
from replica_manager.network import namespaces
from replica_manager.network.address_plan import (
    CELL_NAME,
    CLIENTS_HOST,
    PREFIX_LENGTH,
    PRIVATE_NETWORK,
    PUBLIC_NETWORK,
    namespace_name,
    namespace_pattern,
    plan_addresses,
)
from replica_manager.network.bridges import filter_rules, install_filter, links, settle_protocols
from replica_manager.network.errors import NetworkError

PUBLIC, PRIVATE = "public", "private"
NETWORKS = {PUBLIC: f"{PUBLIC_NETWORK}.0/{PREFIX_LENGTH}", PRIVATE: f"{PRIVATE_NETWORK}.0/{PREFIX_LENGTH}"}


@dataclass(frozen=True, slots=True)
class Place:
    """One end of the switches: a server, a witness, the clients."""

    name: str
    """`s0`, `w1`, `clients`."""
    addresses: Mapping[str, str]
    """Address by network, `public` and `private`."""
    has_bridges: bool
    """Whether an address sits on a bridge, as on a server, or on the cable's end itself."""


@dataclass(frozen=True, slots=True)
class LocalCellReport:
    """What `up` did."""

    created: tuple[str, ...]
    """Namespaces that were not there before."""
    duration_ms: float


def up(config: Config) -> LocalCellReport:
    """Make everything that is missing of the cell's networks.

    Raises:
        NetworkError: the kernel refuses; what was made stays, and another `up` or `down` goes on from there.
    """
    started = time.monotonic()
    cell = _checked(config.cell.name)
    places = plan_places(config)
    wanted = [namespace_name(cell, "switch")] + [namespace_name(cell, place.name) for place in places]
    created = tuple(name for name in wanted if namespaces.create(name))
    namespaces.call_in(wanted[0], partial(_make_switch, cell, places))
    for place in places:
        namespaces.call_in(namespace_name(cell, place.name), partial(_make_place, place))
    return LocalCellReport(created, (time.monotonic() - started) * 1000.0)


def down(cell: str) -> tuple[str, ...]:
    """Remove the cell's networks, whatever is left of them; return the namespaces that were there.

    End the processes inside first (`processes`): they would keep an unnamed namespace alive.

    Raises:
        NetworkError: the kernel refuses.
    """
    return tuple(name for name in cell_namespaces(cell) if namespaces.delete(name))


def cell_namespaces(cell: str) -> list[str]:
    """Return the namespaces of the cell that exist, half-made ones too."""
    pattern = namespace_pattern(_checked(cell))
    return [name for name in namespaces.names() if pattern.fullmatch(name)]


def processes(cell: str) -> dict[str, list[int]]:
    """Return the processes inside each of the cell's namespaces; after `kill -9` of its servers, what they left."""
    return {name: namespaces.process_ids(name) for name in cell_namespaces(cell)}


def plan_places(config: Config) -> list[Place]:
    """Return all places of a one-machine cell.  Pure."""
    plan = plan_addresses(config)
    places = []
    for member, endpoint in plan.private.items():
        addresses = {PRIVATE: endpoint.host}
        if member.is_server:
            addresses[PUBLIC] = plan.public[member.number].host
        places.append(Place(str(member), addresses, has_bridges=member.is_server))
    places.append(Place("clients", {PUBLIC: f"{PUBLIC_NETWORK}.{CLIENTS_HOST}"}, has_bridges=False))
    return places


def _make_switch(cell: str, places: list[Place]) -> None:
    """In the switch's namespace: the bridges, and a cable to every place."""
    settle_protocols()
    with links() as devices:
        devices.switch_on("lo")
        for network in NETWORKS:
            devices.ensure_bridge(network)
        for place in places:
            target = namespaces.path_of(namespace_name(cell, place.name))
            for network in place.addresses:
                port = f"{place.name}-{network}"
                devices.ensure_cable(port, _cable_end(place, network), target)
                devices.attach(port, network)


def _make_place(place: Place) -> None:
    """In a place's namespace: bridges if it is a server, addresses, the packet filter."""
    settle_protocols()
    with links() as devices:
        devices.switch_on("lo")
        for network, address in place.addresses.items():
            if place.has_bridges:
                devices.ensure_bridge(network)
                devices.attach(_cable_end(place, network), network)
            devices.ensure_address(network, address, PREFIX_LENGTH)
    if place.has_bridges:
        install_filter(filter_rules(NETWORKS))


def _cable_end(place: Place, network: str) -> str:
    """Return the device of the cable's end in a place: a card below the bridge, or the device itself."""
    return f"{network}-card" if place.has_bridges else network


def _checked(cell: str) -> str:
    if not CELL_NAME.fullmatch(cell):
        raise NetworkError(f"cell name {cell!r} is not made of up to 32 lower-case letters, digits and inner hyphens")
    return cell
