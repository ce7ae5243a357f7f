"""What `spare bench recovery` has to reach, and a sentence for each bar.  Pure.

Times and rates have bars with virtual machines only: of child processes they say nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

BAR_RATIO = 0.85
BAR_SLOWEST_MS = 2_000
BAR_LARGE_S = 600
BAR_MANAGER_MIB = 250
MIB = 1 << 20


def bars(document: Mapping[str, Any], driver: str) -> list[dict[str, Any]]:
    """Return what was to be reached, what was measured, and whether it is reached; of what was measured only."""
    load, state = document.get("load", {}), document.get("large_state")
    is_timed = driver == "libvirt"
    found: list[dict[str, Any]] = []
    if "half" in load:
        found += _of_clients(load["half"], is_timed=is_timed)
        found += _of_recoveries(load["half"]["recoveries"], int(document["settings"]["session"]["recoveries"]))
    if "checkpoint" in load:
        found += _of_end(load)
    if state:
        found += _of_large_state(state, is_timed=is_timed)
    return found


def _of_clients(half: Mapping[str, Any], *, is_timed: bool) -> Iterator[dict[str, Any]]:
    failed, requests = half["failed_requests"], half["requests"]
    yield _bar("failed_requests", failed, 0, failed == 0, f"{failed} of {requests} requests failed (bar: 0)")
    if not is_timed:
        return
    ratio, slowest_ms = half["throughput_ratio"], half["slowest_reply_ms"]
    words = f"in the worst recovery {ratio:.1%} of the throughput before it was left (bar: at least {BAR_RATIO:.0%})"
    yield _bar("throughput_ratio", ratio, BAR_RATIO, ratio >= BAR_RATIO, words)
    words = f"the slowest reply during a recovery took {slowest_ms:.0f} ms (bar: at most {BAR_SLOWEST_MS} ms)"
    yield _bar("slowest_reply_ms", slowest_ms, BAR_SLOWEST_MS, slowest_ms <= BAR_SLOWEST_MS, words)


def _of_recoveries(rows: Sequence[Mapping[str, Any]], wanted: int) -> Iterator[dict[str, Any]]:
    complete = sum(row["is_complete"] and row["kind"] == "lightweight" for row in rows)
    words = f"{complete} recoveries were lightweight and renewed every server (bar: {wanted})"
    yield _bar("complete_recoveries", complete, wanted, complete == wanted, words)


def _of_end(load: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    digests, veterans, left = load["checkpoint"]["digests"], load["served_at_start"], load["left_of_them"]
    states = len(set(digests.values()))
    has_all = states == 1 and len(digests) == len(veterans)
    words = f"{len(digests)} domains gave {states} different states at the end (bar: {len(veterans)} domains, 1 state)"
    yield _bar("states", states, 1, has_all, words)
    what = ", ".join(left) or "nothing"
    words = f"of {len(veterans)} domains that served at the start, and of their disks, is left: {what} (bar: nothing)"
    yield _bar("left_of_first_domains", len(left), 0, not left, words)


def _of_large_state(state: Mapping[str, Any], *, is_timed: bool) -> Iterator[dict[str, Any]]:
    size_mib, taken_s = state["state_bytes"] // MIB, state["duration_s"]
    outcome = "renewed" if state["is_complete"] else "did not renew"
    words = f"the recovery with {size_mib} MiB of state {outcome} every server"
    yield _bar("large_state_complete", int(state["is_complete"]), 1, state["is_complete"], words)
    if is_timed:
        words = f"the recovery with {size_mib} MiB of state took {taken_s:.0f} s (bar: at most {BAR_LARGE_S} s)"
        yield _bar("large_state_s", taken_s, BAR_LARGE_S, taken_s <= BAR_LARGE_S, words)
    peak_mib = round(max(state["manager_peak_bytes"].values()) / MIB, 1)
    words = f"no manager ever had more than {peak_mib:.0f} MiB resident (bar: at most {BAR_MANAGER_MIB} MiB)"
    yield _bar("manager_peak_mib", peak_mib, BAR_MANAGER_MIB, peak_mib <= BAR_MANAGER_MIB, words)


def _bar(name: str, value: float, bar: float, is_met: bool, sentence: str) -> dict[str, Any]:
    return {"name": name, "value": value, "bar": bar, "is_met": is_met, "sentence": sentence}
