"""A cut lets nothing through in its direction, and nothing of it is left when it is mended."""

import socket
from collections.abc import Iterator
from functools import partial

import pytest

from replica_manager.network import namespaces
from replica_manager.network.bridges import links
from replica_manager.network.cuts import cut, cut_rules, mend

HERE, THERE = "10.79.0.1", "10.79.0.2"
TIMEOUT_S, TRIES = 0.5, 10


@pytest.fixture
def places() -> Iterator[tuple[str, str]]:
    """Two namespaces joined by a cable, whose ends are called `private`."""
    names = ("t-cut-here", "t-cut-there")
    for name in names:
        namespaces.delete(name)
        namespaces.create(name)
    try:
        namespaces.call_in(names[0], partial(_join, names[1]))
        namespaces.call_in(names[1], partial(_address, THERE))
        yield names
    finally:
        for name in names:
            namespaces.delete(name)


def _join(other: str) -> None:
    with links() as devices:
        devices.ensure_cable("private", "private", namespaces.path_of(other))
        devices.ensure_address("private", HERE, 24)


def _address(address: str) -> None:
    with links() as devices:
        devices.ensure_address("private", address, 24)


def arrives(source: str, destination: str, address: str, *, is_expected: bool = True) -> bool:
    """Tell whether a datagram gets from one place to the other; one that is expected may take its time."""
    receiver = namespaces.call_in(destination, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sender = namespaces.call_in(source, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with receiver, sender:
        receiver.bind((address, 7))
        receiver.settimeout(TIMEOUT_S)
        return any(_passes(sender, receiver, address) for _ in range(TRIES if is_expected else 2))


def _passes(sender: socket.socket, receiver: socket.socket, address: str) -> bool:
    try:
        sender.sendto(b"x", (address, 7))
        return receiver.recv(10) == b"x"
    except (TimeoutError, PermissionError):
        return False  # a packet filter lets `sendto` fail too


@pytest.mark.netns
@pytest.mark.parametrize(
    ("direction", "goes_out", "comes_in"), [("both", False, False), ("in", True, False), ("out", False, True)]
)
def test_a_cut_is_as_wide_as_it_was_ordered(
    places: tuple[str, str], direction: str, goes_out: bool, comes_in: bool
) -> None:
    here, there = places
    assert arrives(here, there, THERE)
    assert arrives(there, here, HERE)
    namespaces.call_in(here, partial(cut, "private", direction))
    assert arrives(here, there, THERE, is_expected=goes_out) is goes_out
    assert arrives(there, here, HERE, is_expected=comes_in) is comes_in
    namespaces.call_in(here, mend)
    namespaces.call_in(here, mend)
    assert arrives(here, there, THERE)
    assert arrives(there, here, HERE)


def test_the_other_network_is_not_named() -> None:
    """A server cut off from its peers still hears its clients."""
    assert '"public"' not in cut_rules("private", "both")
