"""From events to the phases of a proactive recovery."""

from itertools import count, pairwise
from typing import Any

import pytest

from benchmarks.recovery_phases import PHASES, NoRecovery, boundaries_us, steps_of

SECOND = 1_000_000
_ids = count(1)


def event(at_s: float, server: int, kind: str, **data: Any) -> dict[str, Any]:
    """Return an event of a server."""
    return {"at_us": round(at_s * SECOND), "server": server, "id": next(_ids), "kind": kind, "text": kind, "data": data}


def role(at_s: float, teller: int, domain: str, role: str, reason: str) -> dict[str, Any]:
    """Return what a server tells of a domain's role."""
    return event(at_s, teller, "role_changed", domain=domain, role=role, reason=reason)


def of_server(server: int, number: int, booting_s: float, filled_s: float, switched_s: float) -> list[dict[str, Any]]:
    """Return what a server tells of a recovery that began at 10 s and whose point was ordered at 30 s."""
    fresh, sleeper, old = (f"s{server}.g{generation}" for generation in (3, 2, 1))
    other = 1 - server
    return [
        event(10 + server / 10, server, "recovery_began", number=number, recovery="lightweight", token=1),
        event(booting_s, server, "next_booting", domain=fresh),
        event(booting_s + 5, server, "domain_ready", domain=fresh),
        event(30 + server / 10, server, "recovery_ordered", point=7),
        event(32 + server, server, "repair_state_agreed", domain=fresh, point=7),
        event(filled_s, server, "next_filled", domain=fresh),
        role(switched_s, server, fresh, "passive", f"recovery {number}"),
        role(switched_s, server, sleeper, "active", f"recovery {number}"),
        role(switched_s - 0.01, other, sleeper, "active", f"recovery {number}"),
        role(switched_s + 1, server, old, "retired", f"replaced by {sleeper}"),
    ]


def whole_recovery(number: int = 4) -> list[dict[str, Any]]:
    """Return a recovery of two servers from 10 s to 50 s."""
    outcome = {"number": number, "recovery": "lightweight", "renewed": [0, 1], "given_up": {}}
    ends = [event(50 - 0.1 * server, server, "recovery_complete", **outcome) for server in (0, 1)]
    return [*of_server(0, number, 10.5, 36, 40), *of_server(1, number, 20, 38, 45), *ends]


def test_phases_follow_each_other_and_add_up_to_the_recovery() -> None:
    """Each ends when the last server is through with it."""
    steps = steps_of(whole_recovery(), 4)
    assert steps.phases_s == {"boot": 20.1, "refresh and take": 2.9, "fill": 5.0, "switch": 7.0, "old one gone": 5.0}
    assert tuple(steps.phases_s) == PHASES
    assert sum(steps.phases_s.values()) == pytest.approx(steps.duration_s)
    assert (steps.duration_s, steps.kind, steps.is_complete) == (40.0, "lightweight", True)


def test_a_servers_steps_are_what_it_says_of_its_own_domains() -> None:
    """Others hear of its switch a little earlier."""
    second = steps_of(whole_recovery(), 4).servers[1]
    assert (second.server, second.fresh) == (1, "s1.g3")
    assert (second.boot_s, second.take_s, second.fill_s) == (5.0, 2.9, 5.0)
    assert (second.switch_s, second.old_gone_s) == (7.0, 1.0)


def test_the_order_of_events_does_not_matter() -> None:
    assert steps_of(reversed(whole_recovery()), 4) == steps_of(whole_recovery(), 4)


def test_what_another_recovery_did_is_not_counted() -> None:
    """The one before has ended when this one begins."""
    earlier = [{**one, "at_us": one["at_us"] - 45 * SECOND} for one in whole_recovery(3)]
    assert steps_of([*earlier, *whole_recovery()], 4) == steps_of(whole_recovery(), 4)


def test_a_next_generation_that_was_there_already_has_no_boot() -> None:
    """What an earlier recovery left over serves the next one."""
    events = [one for one in whole_recovery() if one["kind"] not in ("next_booting", "domain_ready")]
    steps = steps_of(events, 4)
    assert [one.boot_s for one in steps.servers] == [None, None]
    assert steps.phases_s["boot"] == 20.1


def test_the_last_of_several_boots_counts() -> None:
    """A next generation that ended while it booted was replaced by another one."""
    lost = [event(10.2, 0, "next_booting", domain="s0.g9"), event(10.4, 0, "domain_gone", domain="s0.g9")]
    steps = steps_of([*lost, *whole_recovery()], 4)
    assert steps.servers[0].boot_s == 5.0
    assert steps.incidents == ["0.4 s, server 0, domain_gone: domain_gone"]


def test_a_server_that_was_left_out_lacks_the_steps_after_that() -> None:
    """It agreed on the state later than the other one filled its domain: no phase is negative."""
    missing = {"next_filled", "role_changed", "recovery_complete"}
    events = [one for one in whole_recovery() if one["server"] == 0 or one["kind"] not in missing]
    for one in events:
        if one["kind"] == "repair_state_agreed" and one["server"] == 1:
            one["at_us"] = 37 * SECOND
        if one["kind"] == "recovery_complete":
            one["kind"] = "recovery_incomplete"
    steps = steps_of(events, 4)
    assert not steps.is_complete
    assert (steps.servers[1].fresh, steps.servers[1].fill_s, steps.servers[1].switch_s) == ("", None, None)
    assert steps.phases_s["fill"] == 0.0
    assert sum(steps.phases_s.values()) == pytest.approx(steps.duration_s)


@pytest.mark.parametrize("missing", ["recovery_began", "recovery_complete"])
def test_without_begin_or_end_there_is_nothing_to_measure(missing: str) -> None:
    with pytest.raises(NoRecovery):
        steps_of([one for one in whole_recovery() if one["kind"] != missing], 4)


def test_the_boundaries_of_a_picture_cover_the_recovery() -> None:
    row = steps_of(whole_recovery(), 4).row()
    boundaries = boundaries_us(row)
    assert boundaries[0] == ("boot", 10 * SECOND, 30_100_000)
    assert boundaries[-1] == ("old one gone", 45 * SECOND, 50 * SECOND)
    assert all(former[2] == later[1] for former, later in pairwise(boundaries))
