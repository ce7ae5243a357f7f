"""The ways to a manager: what a link spec names, sockets, and ports by name."""

import contextlib
import os
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from exec_wrapper.errors import LinkClosed, UsageError
from exec_wrapper.links import Channel, Link, ListeningLink, PortChannel, VirtioLink, open_link


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short path."""
    with tempfile.TemporaryDirectory(prefix="spare-") as name:
        yield Path(name)


def connected(link: Link, address: object, family: int) -> tuple[Channel, socket.socket]:
    """Connect to a listening link; return both ends."""
    client = socket.socket(family)
    client.connect(address)  # type: ignore[arg-type]
    return link.open_channel(), client


def exchange(channel: Channel, other: socket.socket) -> None:
    """Send in both directions, then end the connection from the other side."""
    with other:
        channel.write(b"to the manager")
        assert other.recv(100) == b"to the manager"
        other.sendall(b"to the wrapper")
        assert channel.read() == b"to the wrapper"
    assert channel.read() == b""
    with contextlib.suppress(LinkClosed):
        channel.write(b"the first write may still find room")
    with pytest.raises(LinkClosed):
        channel.write(b"nobody is there")
    channel.close()


def close(link: Link) -> None:
    """Close a listening link."""
    assert isinstance(link, ListeningLink)
    link.close()


def test_a_unix_link_listens_for_one_connection_after_the_other(directory: Path) -> None:
    """Only the owner may connect; a socket left by a former process is replaced."""
    path = directory / "channel"
    for _ in range(2):
        link = open_link(f"unix:{path}")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for _ in range(2):
            exchange(*connected(link, str(path), socket.AF_UNIX))
        close(link)
        assert path.exists()


def test_a_tcp_link_listens(directory: Path) -> None:
    """Port 0 lets the system choose."""
    link = open_link("tcp:127.0.0.1:0")
    assert isinstance(link, ListeningLink)
    exchange(*connected(link, link.address, socket.AF_INET))
    close(link)


def test_an_inherited_socket_listens() -> None:
    """As a service manager or a test hands it over."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    link = open_link(f"fd:{listener.detach()}")
    exchange(*connected(link, address, socket.AF_INET))
    close(link)


def test_connecting_links_wait_until_somebody_listens(directory: Path) -> None:
    """For set-ups in which the manager's side listens."""
    path = directory / "manager"
    unix, tcp = open_link(f"unix-connect:{path}"), open_link("tcp-connect:127.0.0.1:1")
    assert tcp is not None
    channels: list[Channel] = []
    thread = threading.Thread(target=lambda: channels.append(unix.open_channel()))
    thread.start()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        other, _ = listener.accept()
        thread.join(60)
        exchange(channels[0], other)


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "unix",
        "unix:",
        "carrier-pigeon:1",
        "tcp:1234",
        "tcp:host:port",
        "tcp:h:70000",
        "fd:x",
        "unix:/" + "x" * 107,
        "tcp-connect::1",
    ],
)
def test_what_names_no_link_is_refused(spec: str) -> None:
    """With the offending value."""
    with pytest.raises(UsageError):
        open_link(spec)


def test_a_port_is_found_by_its_name(directory: Path) -> None:
    """Port numbers depend on the machine; names are given by the hypervisor.  The device here is a named pipe."""
    for port, name in (("vport1p1", "org.other.0"), ("vport2p1", "org.spare.0")):
        (directory / "ports" / port).mkdir(parents=True)
        (directory / "ports" / port / "name").write_text(name + "\n")
    os.mkfifo(directory / "vport2p1")
    link = VirtioLink("org.spare.0", directory / "ports", directory)
    channel = link.open_channel()
    channel.write(b"x" * 1000)
    assert channel.read() == b"x" * 1000
    channel.close()
    again = link.open_channel()
    again.write(b"the port stays open")
    assert channel.read() == b"the port stays open"
    link.close()


def test_a_port_channel_writes_everything_though_the_driver_takes_little() -> None:
    """A pipe, like a port, takes a part of a long write; the rest follows when the reader is ready."""
    reading, writing = os.pipe()
    data = os.urandom(1 << 20)
    received = bytearray()

    def read_all() -> None:
        while len(received) < len(data):
            received.extend(PortChannel(reading).read())

    thread = threading.Thread(target=read_all)
    thread.start()
    PortChannel(writing).write(data)
    thread.join(60)
    assert bytes(received) == data
    os.close(reading)
    os.close(writing)
