"""What applying an update costs compared with executing its request.

Source: design "Numbers to reach": more than ten times less, and in a batch of 100 at most 0.4 of a single one.
"""

import time
from collections.abc import Sequence

import pytest

from tests.rubis.running_replica import FIRST_ITEM, MINI, RunningReplica, page_request

pytestmark = [pytest.mark.db, pytest.mark.slow]

UPDATES = 300
BATCH = 100


def seconds_applying(site: RunningReplica, updates: Sequence[bytes], batch_size: int) -> float:
    begin = time.perf_counter()
    for start in range(0, len(updates), batch_size):
        cursor = site.adapter.cursor()
        batch = [(cursor + index, update) for index, update in enumerate(updates[start : start + batch_size])]
        site.apply(batch, batch[-1][0])
    return time.perf_counter() - begin


def test_applying_costs_a_tenth_of_executing_and_batches_less(site: RunningReplica) -> None:
    """The best of three rounds each, because other work shares the processor."""
    rounds = []
    for number in range(3):
        site.reset()
        requests = [
            page_request(
                "StoreBid", itemId=FIRST_ITEM + index % MINI.items, userId=1 + index % MINI.users, qty=1, maxQty=1,
                minBid="1", bid=f"{10_000 + index}", maxBid="99999",
            )
            for index in range(UPDATES)
        ]  # fmt: skip
        begin = time.perf_counter()
        updates = [site.execute(request).update for request in requests]
        executing = time.perf_counter() - begin
        assert sum(map(bool, updates)) > UPDATES // 2
        changes = [update for update in updates if update]
        executing *= len(changes) / UPDATES
        site.reset()
        single = seconds_applying(site, changes, 1)
        site.reset()
        batched = seconds_applying(site, changes, BATCH)
        rounds.append((executing, single, batched))
        print(f"round {number}: {len(changes)} changes, executing {executing:.3f} s, {single:.3f} s, {batched:.3f} s")
    executing, single, batched = (min(column) for column in zip(*rounds, strict=True))
    assert executing / batched > 10
    assert batched / single <= 0.4
