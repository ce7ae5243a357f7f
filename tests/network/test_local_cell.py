"""The networks of a one-machine cell, in real namespaces (root)."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from replica_manager.config import CellSection, Config, ServerSection, ServiceSection, WitnessSection
from replica_manager.network import bridges, local_cell, namespaces
from replica_manager.network.errors import NetworkError

pytestmark = pytest.mark.netns

CELL = f"nett{os.getpid()}"
CONNECT_TIMEOUT_S = 20.0
DROPPED_TIMEOUT_S = 0.7


@pytest.fixture(scope="module", autouse=True)
def _root() -> None:
    assert os.geteuid() == 0, "network namespaces need root: run the tests as root"


def make_config(cell: str = CELL) -> Config:
    return Config(
        cell=CellSection(name=cell),
        service=ServiceSection(),
        server=[ServerSection(id=0), ServerSection(id=1)],
        witness=[WitnessSection(id=0)],
    )


def machine() -> dict[str, str]:
    """What must be the same before and after: namespaces, devices, packet filters, mounts of this machine.

    Other things on this machine may come and go meanwhile; of namespaces and mounts only this module's are compared.
    """

    def lines(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return {
        "namespaces": "\n".join(line for line in lines("ip", "netns").splitlines() if CELL in line),
        "devices": lines("ip", "-brief", "link"),
        "filters": lines("nft", "list", "ruleset"),
        "mounts": "\n".join(line for line in mounts if CELL in line),
    }


@pytest.fixture
def before() -> Iterator[dict[str, str]]:
    """The machine before the test; the cell is removed afterwards in any case."""
    yield machine()
    local_cell.down(CELL)


def place(name: str) -> str:
    return f"spare-{CELL}-{name}"


def reach(client: str, server: str, address: str) -> bool:
    """Tell whether a TCP connection from one namespace reaches a listener on `address` in another, and echo over it."""
    listener = namespaces.call_in(server, lambda: socket.create_server((address, 0)))
    port = listener.getsockname()[1]
    with listener:
        accepting = threading.Thread(target=_echo_once, args=(listener,), daemon=True)
        accepting.start()
        try:
            return namespaces.call_in(client, lambda: _ask(address, port))
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()


def _echo_once(listener: socket.socket) -> None:
    try:
        connection, _ = listener.accept()
    except OSError:
        return
    with connection:
        connection.sendall(connection.recv(100))


def _ask(address: str, port: int) -> bool:
    is_expected = address.startswith("10.77.")
    try:
        with socket.create_connection(
            (address, port), CONNECT_TIMEOUT_S if is_expected else DROPPED_TIMEOUT_S
        ) as asked:
            asked.settimeout(CONNECT_TIMEOUT_S)
            asked.sendall(b"ping")
            return asked.recv(100) == b"ping"
    except OSError:
        return False


def test_up_makes_one_namespace_per_place_and_down_leaves_nothing(before: dict[str, str]) -> None:
    report = local_cell.up(make_config())
    assert set(report.created) == {place(name) for name in ("switch", "s0", "s1", "w0", "clients")}
    during = machine()
    assert during["devices"] == before["devices"]
    assert during["filters"] == before["filters"]
    assert set(local_cell.down(CELL)) == set(report.created)
    assert machine() == before


def test_up_again_changes_nothing(before: dict[str, str]) -> None:
    local_cell.up(make_config())
    devices = [namespaces.call_in(place("s0"), _device_list), namespaces.call_in(place("switch"), _device_list)]
    assert local_cell.up(make_config()).created == ()
    assert devices == [namespaces.call_in(place("s0"), _device_list), namespaces.call_in(place("switch"), _device_list)]


def _device_list() -> str:
    return subprocess.run(["ip", "-brief", "address"], capture_output=True, text=True, check=True).stdout


def test_clients_reach_servers_on_the_public_network(before: dict[str, str]) -> None:
    local_cell.up(make_config())
    assert reach(place("clients"), place("s0"), "10.77.0.10")
    assert reach(place("clients"), place("s1"), "10.77.0.11")


def test_members_reach_each_other_on_the_private_network(before: dict[str, str]) -> None:
    local_cell.up(make_config())
    listener = namespaces.call_in(place("s0"), lambda: socket.create_server(("10.78.0.10", 0)))
    with listener:
        for member in ("s1", "w0"):
            address = listener.getsockname()
            asked = namespaces.call_in(
                place(member), lambda to=address: socket.create_connection(to, CONNECT_TIMEOUT_S)
            )
            asked.close()


def test_clients_reach_no_private_address_even_with_a_route(before: dict[str, str]) -> None:
    """Linux answers for all its addresses on all its devices; the filter ties each network to its device."""
    local_cell.up(make_config())
    assert not reach(place("clients"), place("s0"), "10.78.0.10")
    route = ["ip", "route", "add", "10.78.0.0/24", "via", "10.77.0.10"]
    namespaces.call_in(place("clients"), lambda: subprocess.run(route, check=True))
    for server, address in (("s0", "10.78.0.10"), ("s1", "10.78.0.11"), ("w0", "10.78.0.110")):
        assert not reach(place("clients"), place(server), address)


def test_a_witness_is_not_on_the_public_network(before: dict[str, str]) -> None:
    local_cell.up(make_config())
    assert "10.77." not in namespaces.call_in(place("w0"), _device_list)


def test_two_cells_on_one_machine_do_not_meet(before: dict[str, str]) -> None:
    other = f"{CELL}-s0"
    try:
        local_cell.up(make_config())
        local_cell.up(make_config(other))
        assert not set(local_cell.cell_namespaces(CELL)) & set(local_cell.cell_namespaces(other))
        # Same addresses, other switch.
        listener = namespaces.call_in(f"spare-{other}-s0", lambda: socket.create_server(("10.77.0.10", 0)))
        with listener:
            port = listener.getsockname()[1]
            with pytest.raises(OSError):
                namespaces.call_in(
                    place("clients"), lambda: socket.create_connection(("10.77.0.10", port), CONNECT_TIMEOUT_S)
                )
        local_cell.down(CELL)
        assert len(local_cell.cell_namespaces(other)) == 5
    finally:
        local_cell.down(other)


def test_a_killed_up_leaves_nothing_that_down_does_not_remove(before: dict[str, str]) -> None:
    """kill -9 at ten points in time between nothing and everything."""
    script = (
        "import sys; from tests.network.test_local_cell import make_config, local_cell;"
        "print('go', flush=True); local_cell.up(make_config(sys.argv[1]))"
    )
    generator = random.Random(1)
    for attempt in range(10):
        child = subprocess.Popen([sys.executable, "-c", script, CELL], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        # Where it is hit is the point of the test, so this pause is drawn and not waited out.
        deadline = time.monotonic() + generator.random() * 0.02 * (attempt + 1)
        while time.monotonic() < deadline:
            pass
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        if attempt % 2:
            local_cell.up(make_config())
            assert reach(place("clients"), place("s0"), "10.77.0.10")
        local_cell.down(CELL)
        assert machine() == before


def test_processes_inside_are_found(before: dict[str, str]) -> None:
    local_cell.up(make_config())
    child = namespaces.call_in(place("s0"), lambda: subprocess.Popen(["sleep", "1000"]))
    try:
        assert local_cell.processes(CELL)[place("s0")] == [child.pid]
        assert local_cell.processes(CELL)[place("s1")] == []
    finally:
        child.kill()
        child.wait()


def test_a_process_enters_before_it_has_threads(before: dict[str, str]) -> None:
    local_cell.up(make_config())
    script = (
        "import sys, subprocess; from replica_manager.network import namespaces; namespaces.enter(sys.argv[1]);"
        "print(subprocess.run(['ip', '-brief', 'address'], capture_output=True, text=True).stdout)"
    )
    result = subprocess.run([sys.executable, "-c", script, place("s1")], capture_output=True, text=True, check=True)
    assert "10.78.0.11/24" in result.stdout


def test_a_process_with_threads_cannot_enter() -> None:
    release = threading.Event()
    other = threading.Thread(target=release.wait)
    other.start()
    try:
        with pytest.raises(NetworkError, match="with several threads"):
            namespaces.enter(place("s0"))
    finally:
        release.set()
        other.join()


def test_a_listener_made_before_stays_outside(before: dict[str, str]) -> None:
    """What `publish` rests on: a socket belongs to the namespace it was made in."""
    local_cell.up(make_config())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(OSError):
            namespaces.call_in(place("s0"), lambda: socket.create_connection(("127.0.0.1", port), CONNECT_TIMEOUT_S))
        namespaces.call_in(place("s0"), listener.listen)
        socket.create_connection(("127.0.0.1", port), CONNECT_TIMEOUT_S).close()


def test_an_unknown_namespace_is_named() -> None:
    with pytest.raises(NetworkError, match="spare-nowhere-s0 cannot be entered"):
        namespaces.call_in("spare-nowhere-s0", lambda: None)


def test_an_exception_inside_comes_out(before: dict[str, str]) -> None:
    local_cell.up(make_config())
    with pytest.raises(ZeroDivisionError):
        namespaces.call_in(place("s0"), lambda: 1 // 0)


def test_a_bad_cell_name_never_reaches_the_kernel() -> None:
    for name in ("", "../x", "A", "-a", "a" * 40, "a/b"):
        with pytest.raises(NetworkError, match="cell name"):
            local_cell.up(make_config(name))


def test_bridges_of_a_real_host(before: dict[str, str]) -> None:
    """In a namespace that stands for a host with one card per network."""
    host = place("w9")
    namespaces.create(host)

    def in_host() -> list[str]:
        with bridges.links() as devices:
            devices.ensure_cable("card0", "far0", namespaces.path_of(host))
            devices.ensure_cable("card1", "far1", namespaces.path_of(host))
        wanted = [
            bridges.HostBridge("public", "192.0.2.1/24", "card0"),
            bridges.HostBridge("private", "198.51.100.1/24", "card1"),
        ]
        bridges.ensure_host_bridges(wanted)
        bridges.ensure_host_bridges(wanted)
        with bridges.links() as devices:
            assert devices.remove("public")
            assert not devices.remove("public")
            return devices.names()

    assert "private" in namespaces.call_in(host, in_host)
    described = namespaces.call_in(host, _device_list)
    assert "198.51.100.1/24" in described
    assert "192.0.2.1" not in described


def test_a_missing_card_is_named(before: dict[str, str]) -> None:
    host = place("w9")
    namespaces.create(host)
    with pytest.raises(NetworkError, match="there is no device eth9"):
        namespaces.call_in(host, lambda: bridges.ensure_host_bridges([bridges.HostBridge("public", uplink="eth9")]))


def test_a_long_device_name_is_refused(before: dict[str, str]) -> None:
    host = place("w9")
    namespaces.create(host)
    with pytest.raises(NetworkError, match="longer than 15 bytes"):
        namespaces.call_in(host, lambda: bridges.ensure_host_bridges([bridges.HostBridge("a-very-long-name")]))
