"""Every step of a recovery, and at each of them everything that may end then: always safe, always back to whole.

Source: design "Proactive recovery"; "a planner that can be interrupted after any step".
"""

from collections.abc import Callable

import pytest

from replica_manager.cell.recoveries import LIGHTWEIGHT, RESILIENT, Recovery
from replica_manager.cell.roles import DomainRecord, Role
from replica_manager.identifiers import DomainId, generation_of
from tests.simulation.cell.misbehaviour import NeverHello
from tests.simulation.cell.options import quiet
from tests.simulation.cell.run import Run
from tests.simulation.cell.server import SimulatedServer

pytestmark = pytest.mark.slow

LOOK_US = 1_000
BEGIN_US = 300_000
SPOILED_BOOTS = 2
FIRST = 2
"""Generations that a cell begins with."""

STEPS: dict[str, Callable[[Recovery], bool]] = {
    "begun": lambda _: True,
    "first one booted": lambda now: any(one.fresh for one in now.renewals),
    "all booted": lambda now: now.is_booted,
    "at the point": lambda now: now.point > 0,
    "first one filled": lambda now: any(one.is_filled for one in now.renewals),
    "first switch": lambda now: any(one.switched_at for one in now.renewals),
    "first one through": lambda now: bool(now.renewed),
}


def kill(run: Run, server: SimulatedServer, is_meant: Callable[[DomainRecord], bool]) -> bool:
    """End a server's newest domain of a kind, as its hypervisor would tell."""
    own = [record.domain for record in server.core.cell.domains_of(server.number) if is_meant(record)]
    domain = own[-1] if own else None
    if domain is None or domain not in server.domains:
        return False
    run.faults.budget.note_bad(domain)
    server.kill_domain(domain)
    return True


def crash(run: Run, server: SimulatedServer) -> bool:
    """The whole server ends, and comes back."""
    run.faults.of_servers.crash_of(server)
    return True


def restart(run: Run, server: SimulatedServer) -> bool:
    """The manager's process ends, and starts again."""
    run.faults.of_servers.restart_of(server)
    return True


def spoil_boots(run: Run, server: SimulatedServer) -> bool:
    """The next fresh domains there say nothing."""
    left = [SPOILED_BOOTS]

    def spoil(domain: DomainId) -> None:
        if left[0]:
            left[0] -= 1
            server.misbehave(domain, NeverHello(run.world.random))

    server.hosted.on_boot = spoil
    return True


FAULTS: dict[str, Callable[[Run, SimulatedServer], bool]] = {
    "active domain ends": lambda run, server: kill(run, server, lambda one: one.role is Role.ACTIVE),
    "passive domain ends": lambda run, server: kill(run, server, lambda one: one.role is Role.PASSIVE),
    "next generation ends": lambda run, server: kill(run, server, lambda one: generation_of(one.domain) > FIRST),
    "next generations do not boot": spoil_boots,
    "server crashes": crash,
    "manager restarts": restart,
}
IMPOSSIBLE = {("begun", "next generation ends")}
"""There is none then."""


@pytest.mark.parametrize("f", [1, 2])
@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", [LIGHTWEIGHT, RESILIENT])
def test_a_fault_at_any_step_leaves_a_cell_that_is_whole_in_the_end(
    kind: str, step: str, fault: str, target: int, f: int
) -> None:
    run = Run(7 + target, quiet(f))
    done: list[bool] = []

    def begin() -> None:
        run.servers[0].core.order_recovery(kind, 5)
        run.servers[0].touch()
        look()

    def look() -> None:
        now = run.servers[target].core.cell.recoveries.current
        is_time = now is not None and STEPS[step](now) and (step, fault) not in IMPOSSIBLE
        if is_time and FAULTS[fault](run, run.servers[target]):
            done.append(True)
            return
        if run.world.now_us < 3_000_000:
            run.world.after(LOOK_US, look)

    run.world.after(BEGIN_US, begin)
    run.go()
    assert run.history.events["recovery_complete"] > 0
    assert done or (step, fault) in IMPOSSIBLE, "the fault never came"
