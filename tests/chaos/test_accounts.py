"""Every acknowledged write is in every database once; marks tell writes apart; the verdict says what is wrong."""

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import pytest

from benchmarks.chaos.auction_load import own_write
from benchmarks.chaos.auction_tokens import Marker, comment_token, item_token
from benchmarks.chaos.key_value_load import JOURNAL, tokens_in
from benchmarks.chaos.tally import Tally
from benchmarks.chaos.tokens import Ledger
from benchmarks.chaos.verdict import Outcome, report_of, summary_lines
from rubis_adapter.client_emulator.requests import SERVLETS, HttpRequest

FAULT = {
    "step": 1,
    "kind": "hang",
    "target": "s0.g1",
    "evidence": ["s1:4"],
    "detected_ms": 1.5,
    "stable_ms": None,
    "redundancy_restored_s": 2.0,
}


def ledger() -> Ledger:
    """Return books with one write of each fate."""
    books = Ledger()
    for token in ("acknowledged", "open", "refused"):
        books.sent(token)
    books.acknowledged("acknowledged")
    books.refused("refused")
    return books


def good() -> Outcome:
    """Return what a run without problems found."""
    accounts = ledger().settle({"s0.g1": {"acknowledged": 1}, "s1.g1": {"acknowledged": 1, "open": 1}})
    digests = {"s0.g1": "aa", "s1.g1": "aa"}
    return Outcome(9, {}, accounts, [], digests, 2, True, "linearizable", [])


def test_an_undecided_write_may_be_there_or_not() -> None:
    accounts = good().accounts
    assert accounts is not None
    assert (accounts.lost, accounts.doubled, accounts.revived) == ([], [], [])
    assert (accounts.acknowledged, accounts.undecided) == (1, 1)


def test_lost_doubled_and_revived_writes_are_found_in_each_database_by_itself() -> None:
    accounts = ledger().settle({"s0.g1": {"acknowledged": 2, "refused": 1}, "s1.g1": {"open": 2}})
    assert accounts.lost == ["s1.g1: acknowledged"]
    assert accounts.doubled == ["s0.g1: acknowledged", "s1.g1: open"]
    assert accounts.revived == ["s0.g1: refused"]


def test_a_token_is_used_once() -> None:
    books = ledger()
    with pytest.raises(AssertionError, match="twice"):
        books.sent("open")


def test_a_run_without_problems_has_none() -> None:
    document = report_of([FAULT], good())
    assert document["problems"] == []
    assert (document["lost_writes"], document["doubled_writes"], document["state_digests_equal"]) == (0, 0, True)
    assert len(summary_lines(document)) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"requests": 0}, "sent nothing"),
        ({"failures": {"undecided": 2}}, "2 requests failed"),
        ({"accounts": None}, "could not be read"),
        ({"accounts": ledger().settle({"s0.g1": {}})}, "1 acknowledged writes are lost"),
        ({"accounts": ledger().settle({"s0.g1": {"acknowledged": 2}})}, "1 writes were executed twice"),
        ({"accounts": ledger().settle({"s0.g1": {"acknowledged": 1, "refused": 1}})}, "refused writes were executed"),
        ({"accounts": Ledger().settle({})}, "no write was acknowledged"),
        ({"wrong_convictions": [{"domain": "s0.g7"}]}, "wrongly: s0.g7"),
        ({"state_digests": {"s0.g1": "aa", "s1.g1": "bb"}}, "differ"),
        ({"domains_wanted": 4}, "2 of 4 domains"),
        ({"linearizable": False}, "not those of one execution"),
        ({"given_up": ["step 2: no"]}, "step 2: no"),
    ],
)
def test_whatever_must_not_be_is_a_problem(change: dict[str, Any], words: str) -> None:
    problems = report_of([FAULT], replace(good(), **change))["problems"]
    assert [problem for problem in problems if words in problem]


def test_a_fault_without_evidence_fails_the_run() -> None:
    problems = report_of([{**FAULT, "evidence": []}], good())["problems"]
    assert problems == ["nothing shows that hang of s0.g1 took effect"]


def test_a_fault_after_which_redundancy_did_not_come_back_fails_the_run() -> None:
    problems = report_of([{**FAULT, "redundancy_restored_s": None}], good())["problems"]
    assert problems == ["redundancy was not restored after hang of s0.g1"]


def test_seconds_without_a_reply_are_in_the_throughput() -> None:
    tally = Tally(100.0)
    for now_s in (100.1, 100.9, 103.0):
        tally.replied(now_s)
    tally.failed("undecided", 104.5)
    assert tally.per_second == [2, 0, 0, 1, 0]
    assert tally.requests == 4


def test_tokens_are_read_from_journals_alone_as_often_as_they_are_there() -> None:
    entries = [(JOURNAL + b"0.0", b"0.1;0.2;0.1;"), (b"k1", b"0.3;"), (JOURNAL + b"1.0", b"1.1;")]
    assert tokens_in(entries) == ["0.1", "0.2", "0.1", "1.1"]


def form(page: str, body: str) -> HttpRequest:
    """Return a request that writes."""
    return HttpRequest(f"{SERVLETS}{page}", body.encode())


def test_the_same_bid_twice_is_two_writes() -> None:
    marker = Marker()
    bid = form("StoreBid", "itemId=7&userId=3&minBid=1.00&bid=2.00&maxBid=4.00&qty=1&maxQty=1")
    tokens = [marker.mark(bid)[1] for _ in range(2)]
    assert tokens == ["bid 7 3 2.01", "bid 7 3 2.02"]


def test_the_same_purchase_twice_has_two_buyers() -> None:
    marker = Marker()
    marked = [marker.mark(form("StoreBuyNow", "itemId=7&userId=500&qty=1&maxQty=3")) for _ in range(2)]
    assert [token for _, token in marked] == ["buy 7 500", "buy 7 1"]
    assert parse_qs(marked[1][0].body or b"")[b"userId"] == [b"1"]


def test_texts_carry_their_mark_into_the_database() -> None:
    marker = Marker()
    comment, token = marker.mark(form("StoreComment", "itemId=7&to=1&from=2&rating=5&comment=a+b"))
    assert comment_token(parse_qs(comment.body or b"")[b"comment"][0].decode()) == token == "comment 1"
    item, token = marker.mark(form("RegisterItem", "name=x&description=y"))
    assert item_token(parse_qs(item.body or b"")[b"description"][0].decode()) == token == "item 2"
    assert comment_token("somebody else's") == ""


def test_a_request_that_writes_nothing_stays_as_it_is() -> None:
    request = HttpRequest("/rubis_servlets/")
    assert Marker().mark(request) == (request, "")


def test_the_site_takes_the_write_of_the_runner_and_its_text_is_no_token() -> None:
    """An empty comment is refused, and the accounts were never settled."""
    body = own_write().body
    assert body is not None
    (text,) = parse_qs(body.decode("ascii"))["comment"]
    assert text.strip()
    assert not comment_token(text)
