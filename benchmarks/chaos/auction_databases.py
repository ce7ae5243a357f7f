"""As `databases`, for the auction site; apart, because it needs the case study's libraries."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy import select

from benchmarks.chaos.auction_tokens import bid_token, buy_token, comment_token, item_token, user_token
from benchmarks.chaos.databases import find_disk
from benchmarks.chaos.disk_contents import database_on
from replica_manager.config import Config
from rubis_adapter.schema import bids, buy_now, comments, items, users


def count_auction(config: Config, domains: Sequence[str]) -> Mapping[str, Counter[str]]:
    """Return how often each domain's database has each token.

    Raises:
        AssertionError, OSError, SQLAlchemyError: a disk or database cannot be read.
    """
    return {domain: Counter(_auction_tokens(find_disk(config, domain))) for domain in domains}


def _auction_tokens(disk: Path) -> list[str]:
    with database_on(disk) as connection:
        rows = connection.execute(select(bids.c.item_id, bids.c.user_id, bids.c.max_bid)).all()
        tokens = [bid_token(item, user, f"{maximum:.2f}") for item, user, maximum in rows]
        bought = connection.execute(select(buy_now.c.item_id, buy_now.c.buyer_id, buy_now.c.id)).all()
        tokens += [token for item, buyer, number in bought if (token := buy_token(item, buyer, number))]
        tokens += [comment_token(text) for text in connection.execute(select(comments.c.comment)).scalars()]
        tokens += [item_token(text) for text in connection.execute(select(items.c.description)).scalars()]
        tokens += [user_token(name) for name in connection.execute(select(users.c.nickname)).scalars()]
        return tokens
