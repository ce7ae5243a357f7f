"""Named events prove faults: the right kind, about the right domain or server."""

from typing import Any

from benchmarks.chaos.evidence import Straightener, observe, wrong_convictions
from benchmarks.chaos.fault_kinds import KINDS
from benchmarks.chaos.schedule import Target

DOMAIN = Target(1, "s1.g3")
SERVER = Target(1)


def event(kind: str, server: int = 0, number: int = 1, at_us: int = 2_000_000, **data: Any) -> dict[str, Any]:
    """Return an event as it stands in a server's log."""
    return {"id": number, "at_us": at_us, "server": server, "kind": kind, "text": "", "data": data}


def test_a_contradiction_of_the_target_proves_a_wrong_reply() -> None:
    events = [event("vote_contradicts", number=17, domain="s1.g3"), event("vote_contradicts", 1, 9, domain="s1.g3")]
    effect = observe(KINDS["wrong-reply"], DOMAIN, 1_750_000, events)
    assert effect.evidence == ["s0:17", "s1:9"]
    assert effect.detected_ms == 250.0


def test_what_happens_to_another_domain_proves_nothing() -> None:
    events = [event("vote_contradicts", domain="s0.g3"), event("domain_gone", domain="s1.g3")]
    effect = observe(KINDS["wrong-reply"], DOMAIN, 0, events)
    assert effect.evidence == []
    assert effect.detected_ms is None


def test_a_domain_that_did_not_vote_when_others_waited_is_proven_to_hang() -> None:
    waited = event("vote_stalled", number=4, contributed=["s0.g1"])
    assert observe(KINDS["hang"], DOMAIN, 0, [waited]).evidence == ["s0:4"]
    voted = event("vote_stalled", number=5, contributed=["s0.g1", "s1.g3"])
    assert observe(KINDS["hang"], DOMAIN, 0, [voted]).evidence == []


def test_a_server_is_known_by_number_name_and_domains() -> None:
    frozen = KINDS["freeze-manager"]
    assert observe(frozen, SERVER, 0, [event("server_suspected", suspect=1)]).evidence
    assert observe(frozen, SERVER, 0, [event("witness_used", silent=["s1"])]).evidence
    assert not observe(frozen, SERVER, 0, [event("witness_used", silent=["s11"])]).evidence
    assert observe(KINDS["rounding-database"], SERVER, 0, [event("vote_contradicts", domain="s1.g1")]).evidence
    assert not observe(KINDS["rounding-database"], SERVER, 0, [event("vote_contradicts", domain="s10.g1")]).evidence


def test_what_a_server_tells_of_itself_is_told_by_the_target() -> None:
    assert observe(KINDS["step-clock"], SERVER, 0, [event("clock_stepped", 1, offset_us=5)]).evidence == ["s1:1"]
    assert observe(KINDS["step-clock"], SERVER, 0, [event("clock_stepped", 0, offset_us=5)]).evidence == []


def test_the_runner_s_own_events_have_a_name_too() -> None:
    effect = observe(
        KINDS["cut"], SERVER, 0, [event("public_unreachable", -1, 7, target="x") | {"data": {"server": "s1"}}]
    )
    assert effect.evidence == ["runner:7"]


def test_the_longest_stall_is_reported() -> None:
    events = [event("stall_ended", ms=40), event("stall_ended", ms=90), event("stall_ended", ms=10)]
    assert observe(KINDS["hang"], DOMAIN, 0, events).stable_ms == 90
    assert observe(KINDS["hang"], DOMAIN, 0, []).stable_ms is None


def test_only_domains_that_were_not_ordered_to_lie_are_convicted_wrongly() -> None:
    events = [
        event("vote_contradicts", domain="s1.g3"),
        event("domain_misbehaved", domain="s0.g1", number=3),
        event("vote_contradicts", domain="s0.g1", number=4),
        event("vote_contradicts", domain="s2.g1"),
        event("domain_suspected", domain="s0.g2"),
        event("domain_misbehaved", domain="s0.g4", reason="the wrapper gave up: no space"),
    ]
    assert wrong_convictions(events, {"s1.g3", "s2"}) == [
        {"domain": "s0.g1", "event": "s0:3", "kind": "domain_misbehaved"}
    ]


def test_a_conviction_for_a_state_is_one_and_a_replacement_is_none() -> None:
    replaced = event("role_changed", domain="s0.g1", role="retired", reason="replaced by s0.g3")
    convicted = event("role_changed", domain="s0.g2", role="retired", reason="convicted: its state differs")
    assert [one["domain"] for one in wrong_convictions([replaced, convicted], set())] == ["s0.g2"]


def test_events_of_a_server_with_a_wrong_clock_get_the_right_time() -> None:
    straightener = Straightener()
    hour_us = 3_600_000_000
    before = event("refreshed", at_us=10)
    stepped = event("clock_stepped", at_us=11 + hour_us, offset_us=hour_us)
    during, elsewhere = event("refreshed", at_us=12 + hour_us), event("refreshed", 1, at_us=13)
    right = event("clock_stepped", at_us=14, offset_us=0)
    times = [straightener.straighten(one)["at_us"] for one in (before, stepped, during, elsewhere, right)]
    assert times == [10, 11, 12, 13, 14]
