"""Whole cells under random faults: every seed keeps every rule and finishes.

Source: design "Simulation and checkers".
"""

from collections.abc import Callable

import pytest

from tests.simulation.cell import checkers
from tests.simulation.cell.history import Operation
from tests.simulation.cell.options import quiet
from tests.simulation.cell.rules import RuleBroken
from tests.simulation.cell.run import Run, draw_options, run_seed

SEEDS_FAST = 20
SEEDS = 1000
CHUNK = 20


def run_chunk(first: int, count: int) -> list[dict[str, object]]:
    return [run_seed(seed) for seed in range(first, first + count)]


def require_work(reports: list[dict[str, object]]) -> None:
    """A request that kills too many ends a cell early: then nothing is asked of it but safety."""
    finished = [report for report in reports if "lost" not in report["events"]]  # type: ignore[operator]
    assert len(finished) > len(reports) // 2
    assert all(report["requests"] >= 100 for report in finished)  # type: ignore[operator]


def test_some_seeds_keep_every_rule() -> None:
    require_work(run_chunk(0, SEEDS_FAST))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(SEEDS_FAST, SEEDS, CHUNK))
def test_seeds_keep_every_rule(first: int) -> None:
    require_work(run_chunk(first, CHUNK))


def test_the_drawn_options_are_as_promised() -> None:
    """At least 3 clients, faults in nine of ten seeds, f = 2 in half of them."""
    drawn = [draw_options(seed) for seed in range(1000)]
    assert min(options.clients for options in drawn) >= 3
    assert 0.85 < sum(options.is_faulty for options in drawn) / 1000 < 0.95
    assert 0.45 < sum(options.f == 2 for options in drawn) / 1000 < 0.55


def test_a_seed_gives_the_same_run_again() -> None:
    assert run_seed(7) == run_seed(7)


def quiet_run(seed: int = 0) -> Run:
    run = Run(seed, draw_options(seed))
    run.go()
    return run


def test_a_planted_wrong_row_is_found() -> None:
    run = quiet_run()
    server = run.live[0]
    next(iter(server.domains.values())).rows[b"k0"] = b"planted"
    with pytest.raises(RuleBroken, match="state"):
        run.check()


def test_a_planted_second_delivery_is_found() -> None:
    run = quiet_run()
    order = run.history.longest_order
    order.append(order[3])
    with pytest.raises(RuleBroken, match="at most once"):
        checkers.check_at_most_once(run.history)


def test_a_planted_stale_reply_is_found() -> None:
    run = quiet_run()
    operation = next(one for one in run.history.operations if one.payload.startswith(b"append"))
    operation.reply = b"stale"
    with pytest.raises(RuleBroken, match="linearizable"):
        run.check()


def test_a_planted_reordering_in_real_time_is_found() -> None:
    run = quiet_run()
    first, *_, last = [one for one in run.history.operations if one.replied_us >= 0]
    first.invoked_us, first.replied_us = last.replied_us + 1, last.replied_us + 2
    with pytest.raises(RuleBroken, match="linearizable"):
        run.check()


def test_the_general_checker_alone_finds_stale_reads_swaps_and_values_from_nowhere() -> None:
    """It is not told the order, so it must find by itself what the checker with the order finds."""
    plants: list[Callable[[list[Operation]], None]] = [reply_staler, reply_from_nowhere, reply_in_the_past]
    for plant in plants:
        run = quiet_run()
        checkers.check_client_history(run.history)
        plant(run.history.operations)
        with pytest.raises(RuleBroken, match="client history: not linearizable"):
            checkers.check_client_history(run.history)


def reply_staler(operations: list[Operation]) -> None:
    last = max(
        (one for one in operations if one.payload.startswith(b"get ") and one.reply), key=lambda one: one.invoked_us
    )
    last.reply = b""


def reply_from_nowhere(operations: list[Operation]) -> None:
    next(one for one in operations if one.payload.startswith(b"get ")).reply = b"nobody wrote this"


def reply_in_the_past(operations: list[Operation]) -> None:
    first, *_, last = [one for one in operations if one.payload.startswith(b"append k0 ")]
    first.invoked_us, first.replied_us = last.replied_us + 1, last.replied_us + 2


def test_a_planted_difference_of_orders_is_found() -> None:
    run = quiet_run()
    order = run.history.orders[0].entries
    order[5], order[6] = order[6], order[5]
    with pytest.raises(RuleBroken, match=r"order|at most once"):
        run.check()


def test_a_server_whose_clock_was_set_back_comes_back_all_the_same() -> None:
    """S4: its new incarnation has to be higher than any that the cell has named, whatever its clock shows."""
    run = Run(5, quiet(1))
    server = run.servers[1]

    def again() -> None:
        if server.is_serving and run.history.events["rejoined"]:
            server.clock_offset_us -= 3_600_000_000
            run.faults.of_servers.crash_of(server)
        else:
            run.world.after(50_000, again)

    run.world.after(300_000, lambda: run.faults.of_servers.crash_of(server))
    run.world.after(400_000, again)
    run.go()
    assert run.history.events["rejoined"] == 2
