"""Replicas on different databases cannot be told apart: same replies, same updates, same state.

Source: SPARE §4.6.2 (heterogeneous replicas), §4.10.2 (merged batches).
"""

from collections.abc import Iterator
from random import Random

import pytest

from rubis_adapter.auction.presentation import SERVLETS
from tests.rubis.running_replica import FIRST_ITEM, MINI, RunningReplica, get_request, page_request, post_request

pytestmark = pytest.mark.db

REQUESTS = 160


def walk(seed: int) -> Iterator[bytes]:
    """Requests as users might send them, most of them changing something, some of them in vain."""
    random = Random(seed)

    def item() -> int:
        return random.randint(FIRST_ITEM - 3, FIRST_ITEM + MINI.items + 3)

    def user() -> int:
        return random.randint(0, MINI.users + 2)

    def login() -> dict[str, object]:
        number = random.randint(1, MINI.users)
        return {"nickname": f"user{number}", "password": f"password{number}"}

    def bid() -> bytes:
        price = random.randint(100, 2_000_000)
        amounts = {"minBid": f"{price / 100:.2f}", "bid": f"{price / 100 + 3:.6f}", "maxBid": price / 100 + 9}
        return page_request("StoreBid", itemId=item(), userId=user(), qty=random.randint(1, 3), maxQty=3, **amounts)

    def comment() -> bytes:
        rating = random.choice((-5, -3, 0, 3, 5))
        text = "".join(random.choices("aä語𝄞 \n'\"\\%_;", k=40))
        return page_request("StoreComment", itemId=item(), to=user(), rating=rating, comment=text, **{"from": user()})

    def new_item() -> bytes:
        values = {"description": "x" * random.randint(1, 8192), "quantity": random.randint(1, 5), "buyNow": "7.5"}
        where = {"userId": user(), "categoryId": random.randint(0, 21), "duration": random.randint(1, 7)}
        return page_request("RegisterItem", name="Thing'\"\\ ", initialPrice="3", reservePrice="5.5", **values, **where)

    def new_user() -> bytes:
        name = f"n{random.randint(1, 30)}"
        form = f"firstname=A&lastname=B+&nickname={name}&email=a%40b&password=c&region=AZ--Phoenix"
        return post_request(f"{SERVLETS}RegisterUser", form.encode("ascii"))

    makers = (
        bid, bid, comment, new_item, new_user,
        lambda: page_request("StoreBuyNow", itemId=item(), userId=user(), qty=1, maxQty=random.randint(1, 2)),
        lambda: page_request("SearchItemsByCategory", category=random.randint(0, 21), page=random.randint(0, 2)),
        lambda: page_request("ViewItem", itemId=item()),
        lambda: page_request("ViewBidHistory", itemId=item()),
        lambda: page_request("ViewUserInfo", userId=user()),
        lambda: page_request("AboutMe", **login()),
        lambda: get_request("/rubis_servlets/browse.html"),
    )  # fmt: skip
    for _ in range(REQUESTS):
        yield random.choice(makers)()


def test_replies_updates_and_states_are_equal(both: tuple[RunningReplica, RunningReplica]) -> None:
    first, second = both
    changed = 0
    for request in walk(1):
        one, other = first.execute(request), second.execute(request)
        assert one == other, request
        changed += bool(one.update)
    assert changed > REQUESTS // 4
    assert first.state() == second.state() != first.pristine


@pytest.mark.parametrize("batch_size", [1, 7, 100])
@pytest.mark.parametrize("turn", [0, 1])
def test_updates_lead_the_other_database_to_the_same_state(
    both: tuple[RunningReplica, RunningReplica], turn: int, batch_size: int
) -> None:
    active, passive = both[turn], both[1 - turn]
    updates = []
    for request in walk(2):
        sequence = active.adapter.cursor()
        updates.append((sequence, active.execute(request).update))
    shift = passive.adapter.cursor() - updates[0][0]
    moved = [(sequence + shift, update) for sequence, update in updates]
    for start in range(0, len(moved), batch_size):
        batch = moved[start : start + batch_size]
        passive.apply(batch, batch[-1][0])
        assert passive.adapter.cursor() == batch[-1][0] + 1
    assert passive.state() == active.state()


def test_a_state_moves_to_the_other_database(both: tuple[RunningReplica, RunningReplica]) -> None:
    """And a replica that got its state goes on like the one that gave it."""
    first, second = both
    requests = list(walk(3))
    for request in requests[:60]:
        first.execute(request)
    second.apply([], second.adapter.cursor() + 60 - 1)
    second.expect_changes()
    second.adapter.set_state(second.adapter.cursor(), 1, iter(first.state()))
    for request in requests[60:100]:
        assert first.execute(request) == second.execute(request)
    assert first.state() == second.state()
