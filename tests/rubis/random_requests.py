"""Random requests to the auction site, for replicas that must not be told apart."""

from collections.abc import Iterator
from random import Random

from rubis_adapter.auction.presentation import SERVLETS
from rubis_adapter.population.data_sets import DataSet
from tests.rubis.running_replica import MINI, get_request, page_request, post_request

REQUESTS = 160


def walk(seed: int, data: DataSet = MINI, count: int = REQUESTS) -> Iterator[bytes]:
    """Yield requests as users might send them, most of them changing something, some of them in vain."""
    random = Random(seed)

    def item() -> int:
        return random.randint(data.old_items - 2, data.old_items + data.items + 4)

    def user() -> int:
        return random.randint(0, data.users + 2)

    def login() -> dict[str, object]:
        number = random.randint(1, data.users)
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
    for _ in range(count):
        yield random.choice(makers)()
