"""One cell through its days: sleepers sleep, machines and a server die and are replaced, all stops and starts again."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks.machine_traces import left_behind
from exec_wrapper.examples.key_value_commands import OK, encode_field, encode_get, encode_set
from images.catalog import Catalog, Image
from replica_manager.control.processes import is_alive
from tests.vm.cell_traces import Traces, require_nothing_left, traces_of
from tests.vm.framed_users import FramedUsers, User, framed_users
from tests.vm.vm_cell import VmCell, kill, press_ctrl_c, start_spare
from tests.vm.waiting import BOOT_PATIENCE_S, until

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(3600)]

REFRESH_UPDATES_MAX = 10
WRITES = 3 * REFRESH_UPDATES_MAX
"""So many before and after an accident: some are applied to passive domains, some wait for them."""
TICK_S = 0.011
"""One tick of the clock may have been counted late."""
READING_CPU_S = 0.5
"""Load that counts as load: CPU time of each active domain."""

Rows = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def stopped_cell(directory: Path, catalog: Catalog, key_value_image: Image) -> Iterator[VmCell]:
    """A cell that does not run; whatever a test leaves of it is removed in the end."""
    sections = f"""
[service]
image = "{key_value_image.image_id}"
listen = "framed"

[updates]
refresh_updates_max = {REFRESH_UPDATES_MAX}
"""
    cell = VmCell(directory, "t-life", catalog.directory, sections)
    cell.down()
    yield cell
    cell.down()


@pytest.fixture(scope="module")
def before(stopped_cell: VmCell) -> Traces:
    """The machine without the cell."""
    return traces_of(stopped_cell)


@pytest.fixture
def cell(stopped_cell: VmCell, before: Traces) -> VmCell:
    """The same cell, started unless a test before has left it running."""
    if not stopped_cell.serves():
        stopped_cell.spare("cell", "up", "--fresh", "--yes")
    return stopped_cell


def test_ctrl_c_while_the_machines_boot_leaves_nothing(stopped_cell: VmCell, before: Traces) -> None:
    """The command ends what it started and says so; nothing of the cell is on the machine."""
    stopped_cell.down()
    log = stopped_cell.file.parent / "up.log"
    with start_spare(log, "cell", "up", "-c", str(stopped_cell.file)) as command:
        until(lambda: stopped_cell.machines() or command.poll() is not None, "a virtual machine runs", BOOT_PATIENCE_S)
        assert command.poll() is None, log.read_text()
        assert len(stopped_cell.members()) == 3
        press_ctrl_c(command)
        assert command.wait(BOOT_PATIENCE_S) == 130, log.read_text()
    assert "ending what was started" in log.read_text()
    assert "Traceback" not in log.read_text()
    require_nothing_left(stopped_cell, before)


def test_a_passive_domain_sleeps_while_others_are_read(cell: VmCell) -> None:
    """SPARE §4.3.2: refreshed, a passive domain is suspended, and its CPU time does not move under load."""
    with framed_users(cell) as users:
        ledger = Ledger(cell)
        ledger.write(users, 4 * REFRESH_UPDATES_MAX)
        until(lambda: all(cell.status(server)["refreshes"] >= 2 for server in cell.servers), "both sleepers refreshed")
        until(lambda: _asleep(cell), "both sleepers sleep again")
        _keep_busy(users, cell, ledger)  # so that the hypervisor was asked since they fell asleep
        began, began_s = _asleep(cell), time.monotonic()
        _keep_busy(users, cell, ledger)
        slept_s, ended = time.monotonic() - began_s, _asleep(cell)
    assert set(began) == set(ended) == {"s0.g2", "s1.g2"}
    for name, row in ended.items():
        assert row["cpu_seconds"] - began[name]["cpu_seconds"] <= TICK_S
        assert row["suspended_seconds"] - began[name]["suspended_seconds"] >= slept_s
        assert row["cursor"] == began[name]["cursor"]


class Ledger:
    """Writes that the cell has acknowledged; no two ledgers write alike."""

    def __init__(self, cell: VmCell) -> None:
        """Begin with none."""
        self._cell = cell
        self._name = b"%d" % time.monotonic_ns()
        self.written: dict[bytes, bytes] = {}

    def write(self, users: FramedUsers, count: int) -> None:
        """Have `count` more writes acknowledged by the first server, each of a key of its own."""
        user = users.enter(self._cell.servers[0])
        for number in range(len(self.written), len(self.written) + count):
            key, value = b"key %s-%d" % (self._name, number), b"value %s-%d" % (self._name, number)
            assert user.ask(encode_set(key, value)) == OK
            self.written[key] = value

    def read(self, user: User) -> None:
        """Find all of it."""
        for key, value in self.written.items():
            assert user.ask(encode_get(key)) == OK + encode_field(value)

    def require(self) -> None:
        """All of it is there, whichever server is asked, and the states of all four domains are equal."""
        with framed_users(self._cell) as users:
            for server in self._cell.servers:
                self.read(users.enter(server))
        digests = self._cell.ask_spare("checkpoint")["digests"]
        assert set(digests) == {*self._cell.domains("active"), *self._cell.domains("passive")}
        assert len(digests) == 4
        assert len(set(digests.values())) == 1


def _keep_busy(users: FramedUsers, cell: VmCell, ledger: Ledger) -> None:
    """Read until every active domain has been seen to use CPU time for it."""
    before = cell.domains("active")
    assert set(before) == {"s0.g1", "s1.g1"}
    readers = [users.enter(server) for server in cell.servers]

    def have_worked() -> bool:
        for reader in readers:
            ledger.read(reader)
        now = cell.domains("active")
        return all(now[name]["cpu_seconds"] - before[name]["cpu_seconds"] >= READING_CPU_S for name in before)

    until(have_worked, "active domains work")


def _asleep(cell: VmCell) -> Rows:
    """Return the passive domains if manager and hypervisor say that they are suspended; else nothing."""
    rows = cell.domains("passive")
    is_asleep = all(row["power"] == row["hypervisor_state"] == "suspended" for row in rows.values())
    return rows if is_asleep else {}


@pytest.mark.parametrize("role", ["active", "passive"])
def test_a_killed_machine_is_replaced(cell: VmCell, role: str) -> None:
    """Clients notice nothing; a fresh machine is filled, and redundancy is what it was, without the operator."""
    victim, ledger = next(iter(cell.domains(role))), Ledger(cell)
    with framed_users(cell) as users:
        ledger.write(users, WRITES)
        kill([cell.machine_of(victim)])
        ledger.write(users, WRITES)
        until(lambda: victim in cell.domains("retired"), f"{victim} is retired", BOOT_PATIENCE_S)
        until(cell.is_whole, "redundancy is restored", BOOT_PATIENCE_S)
    assert len(cell.machines()) == 4
    ledger.require()


def test_every_machine_is_renewed_twice_while_a_client_writes(cell: VmCell) -> None:
    """SPARE §4.5: no write fails or waits; what served at the beginning is gone, with its disks."""
    first, ledger = {*cell.domains("active"), *cell.domains("passive")}, Ledger(cell)
    is_over = threading.Event()

    def write() -> None:
        with framed_users(cell) as users:
            while not is_over.is_set():
                ledger.write(users, 1)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            for kind in ("lightweight", "resilient"):
                written = len(ledger.written)
                outcome = cell.ask_spare("recover", *(["--resilient"] if kind == "resilient" else []))
                assert (outcome["recovery"], sorted(outcome["renewed"]), outcome["given_up"]) == (kind, [0, 1], {})
                assert len(ledger.written) > written, "nobody wrote meanwhile"
        finally:
            is_over.set()
        writing.result()
    assert not first & {*cell.domains("active"), *cell.domains("passive")}
    until(lambda: len(cell.machines()) == 4, "the old machines are gone")
    until(lambda: not first & _disks(cell), "their disks are gone")
    ledger.require()


def _disks(cell: VmCell) -> set[str]:
    """Return the domains of which a disk is there."""
    places = [Path(place) for server in cell.config.server for place in server.storage]
    return {path.name.removesuffix(".qcow2") for place in places for path in place.iterdir()}


def test_a_killed_server_comes_back_with_its_redundancy(cell: VmCell) -> None:
    """The cell goes on without its manager and machines; started again, it joins with two fresh machines."""
    (stays, victim), ledger = cell.servers, Ledger(cell)
    former = {row["domain"] for row in cell.status(stays)["domains"] if row["server"] == victim}
    with framed_users(cell) as users:
        ledger.write(users, WRITES)
        cell.kill_server(victim)
        ledger.write(users, WRITES)
    until(lambda: not _is_live(cell, stays, victim), f"the cell goes on without server {victim}")
    cell.spare("server", "join", str(victim))
    until(cell.is_whole, "redundancy is restored", BOOT_PATIENCE_S)
    assert not former & {*cell.domains("active"), *cell.domains("passive")}
    assert len(cell.machines()) == 4
    ledger.require()


def _is_live(cell: VmCell, observer: int, server: int) -> bool:
    return any(row["server"] == server and row["live"] for row in cell.status(observer)["servers"])


def test_a_cell_that_was_stopped_starts_again_from_its_disks(cell: VmCell, before: Traces) -> None:
    """`cell down` leaves nothing but files; after `cell up` every acknowledged write is there, in every domain."""
    ledger = Ledger(cell)
    with framed_users(cell) as users:
        ledger.write(users, WRITES)
    cell.spare("cell", "down")
    require_nothing_left(cell, before)
    cell.up()
    until(cell.is_whole, "redundancy is as before", BOOT_PATIENCE_S)
    with framed_users(cell) as users:
        ledger.write(users, WRITES)
    ledger.require()


def test_after_kill_9_of_everything_down_leaves_nothing(cell: VmCell, before: Traces) -> None:
    """Nobody of the cell is left to tidy up: `spare cell down` finds all of it by where it is."""
    assert len(cell.machines()) == 4
    victims = cell.kill_everything()
    assert len(victims) >= 7
    assert not [victim for victim in victims if is_alive(victim)]
    assert {"namespaces", "mounts"} <= set(left_behind(before, traces_of(cell)))
    cell.spare("cell", "down")
    require_nothing_left(cell, before)
