"""One emulated client under a clock of the test's own: think time, sessions, failures, what is counted from when."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from rubis_adapter.client_emulator.emulated_client import RETRY_PAUSE_S, EmulatedClient
from rubis_adapter.client_emulator.http_client import Done
from rubis_adapter.client_emulator.interactions import MODIFYING, STATIC, Interaction, page_mark
from rubis_adapter.client_emulator.replies import FailedRequest, Failure, Reply
from rubis_adapter.client_emulator.requests import STATIC_PATHS, HttpRequest
from rubis_adapter.client_emulator.statistics import SessionStatistics
from rubis_adapter.client_emulator.transitions import load_mix
from rubis_adapter.client_emulator.visitor import THINK_MAX_S, Visitor

SESSION_S = 1_000_000.0
EMPTY_PAGE = Reply(200, b" ".join({page_mark(interaction) for interaction in Interaction}), closes=False)


class FakeTimers:
    """A clock that stands still until the test moves it; timers fire when the test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.waiting: list[tuple[float, Callable[[], object]]] = []
        self._loop = asyncio.new_event_loop()
        self._loop.close()

    def time(self) -> float:
        return self.now_s

    def call_at(self, when: float, callback: Callable[[], object], /) -> asyncio.TimerHandle:
        self.waiting.append((when, callback))
        return asyncio.TimerHandle(when, callback, (), self._loop)

    def fire_next(self, late_s: float = 0.0) -> None:
        """Moves the clock to the next timer's moment, or `late_s` later, and calls back."""
        when, callback = min(self.waiting, key=lambda timer: timer[0])
        self.waiting.remove((when, callback))
        self.now_s = when + late_s
        callback()


@dataclass
class FakeRequester:
    """Remembers the request under way; the test answers it."""

    sent: list[HttpRequest] = field(default_factory=list)
    done: Done | None = None
    is_closed: bool = False

    def request(self, request: HttpRequest, done: Done) -> None:
        assert self.done is None
        self.sent.append(request)
        self.done = done

    def close(self) -> None:
        self.is_closed = True

    def answer(self, result: Reply | FailedRequest) -> None:
        done, self.done = self.done, None
        assert done is not None
        done(result)


@dataclass
class Bench:
    """One client with fakes around it."""

    timers: FakeTimers
    requester: FakeRequester
    statistics: SessionStatistics
    client: EmulatedClient

    def step(
        self, reply: Reply | FailedRequest = EMPTY_PAGE, *, late_s: float = 0.0, takes_s: float = 0.0
    ) -> HttpRequest:
        """The next request is due, sent, and answered after `takes_s`."""
        self.timers.fire_next(late_s)
        self.timers.now_s += takes_s
        self.requester.answer(reply)
        return self.requester.sent[-1]


def bench(
    *, scale: float = 1.0, loads_images: bool = False, stop_s: float = SESSION_S, mix: str = "bidding", seed: int = 1
) -> Bench:
    timers, requester = FakeTimers(), FakeRequester()
    statistics = SessionStatistics(0.0, SESSION_S)
    visitor = Visitor(load_mix(mix), 500, seed, 0)
    client = EmulatedClient(timers, requester, visitor, statistics, think_time_scale=scale, loads_images=loads_images)
    client.start(0.0, stop_s)
    return Bench(timers, requester, statistics, client)


def test_a_session_begins_at_home() -> None:
    assert bench().step().path == STATIC_PATHS[Interaction.HOME]


def test_think_times_are_exponential_with_a_mean_of_seven_and_at_most_seventy_seconds() -> None:
    visitor = Visitor(load_mix("bidding"), 500, 1, 0)
    times_s = sorted(visitor.think_s() for _ in range(100_000))
    assert sum(times_s) / len(times_s) == pytest.approx(7, rel=0.02)
    assert times_s[len(times_s) // 2] == pytest.approx(7 * 0.693, rel=0.02)
    assert 60 < times_s[-1] <= THINK_MAX_S


@pytest.mark.parametrize("scale", [0.0, 0.01, 2.0])
def test_pauses_are_think_times_by_the_scale(scale: float) -> None:
    made = bench(scale=scale)
    for _ in range(2000):
        made.step()
    assert made.timers.now_s / 2000 == pytest.approx(7 * scale, rel=0.1)


def test_the_latency_of_a_request_counts_from_when_it_was_due() -> None:
    """A generator that stands still for 5 s must not report 10 ms: the user has waited 5.01 s."""
    made = bench()
    made.step(late_s=5.0, takes_s=0.01)
    assert made.statistics.per_interaction[Interaction.HOME].latency.max_us == 5_010_000


def test_a_request_belongs_to_the_phase_in_which_it_was_due() -> None:
    statistics = SessionStatistics(10.0, 20.0)
    statistics.record_page(Interaction.HOME, 9.9, 10.5, is_sorry=False)
    statistics.record_page(Interaction.HOME, 10.0, 10.5, is_sorry=False)
    statistics.record_page(Interaction.HOME, 19.9, 25.0, is_sorry=False)
    statistics.record_failure(Interaction.HOME, 20.0, FailedRequest(Failure.TIMEOUT, ""), "/")
    statistics.record_failure(Interaction.HOME, 12.0, FailedRequest(Failure.TIMEOUT, ""), "/")
    assert (statistics.requests, statistics.failed_requests) == (3, 1)
    assert (statistics.requests_of_all_phases, statistics.failed_requests_of_all_phases) == (5, 2)
    assert sum(statistics.completed_per_second) == statistics.completed_per_second[0] == 2


def test_a_failed_request_is_counted_with_its_reason_and_leads_home() -> None:
    made = bench()
    made.step()
    failed = made.step(FailedRequest(Failure.TIMEOUT, "30 s"))
    assert failed.path != STATIC_PATHS[Interaction.HOME]
    assert made.step().path == STATIC_PATHS[Interaction.HOME]
    reason = made.statistics.failures[Failure.TIMEOUT]
    assert (made.statistics.failed_requests, reason.count) == (1, 1)
    assert [(sample.path, sample.detail) for sample in reason.samples] == [(failed.path, "30 s")]


def test_only_a_few_failures_are_kept_as_samples() -> None:
    made = bench()
    for _ in range(100):
        made.step(Reply(500, b"", closes=False))
    assert made.statistics.failures[Failure.STATUS].count == 100
    assert len(made.statistics.failures[Failure.STATUS].samples) == 5


@pytest.mark.parametrize("failure", [Failure.CONNECT, Failure.CONNECTION_LOST, Failure.TRUNCATED])
def test_a_client_without_think_time_does_not_storm_a_dead_server(failure: Failure) -> None:
    made = bench(scale=0.0)
    for _ in range(10):
        made.step(FailedRequest(failure, ""))
    assert made.timers.now_s == pytest.approx(9 * RETRY_PAUSE_S)


def test_no_request_is_sent_at_or_after_the_stop() -> None:
    made = bench(stop_s=100.0)
    while made.timers.waiting:
        made.step()
    assert made.timers.now_s < 100
    assert not made.client.is_running
    assert made.requester.is_closed


def test_closing_a_client_ends_it_at_once() -> None:
    made = bench()
    made.step()
    made.client.close()
    assert not made.client.is_running
    assert made.requester.is_closed


def test_images_of_a_page_are_fetched_one_after_the_other_before_thinking() -> None:
    made = bench(loads_images=True)
    page = b'<IMG SRC="bid_now.jpg"><IMG SRC="/pictures/logo.gif"><IMG SRC="http://elsewhere/x.gif">' + EMPTY_PAGE.body
    made.step(Reply(200, page, closes=False))
    made.requester.answer(Reply(200, b"jpg", closes=False))
    made.requester.answer(Reply(404, b"", closes=False))
    assert [request.target for request in made.requester.sent[1:]] == [
        "/rubis_servlets/bid_now.jpg",
        "/pictures/logo.gif",
    ]
    assert made.requester.done is None
    assert made.timers.waiting
    assert (made.statistics.images, made.statistics.failed_images, made.statistics.requests) == (3, 2, 1)


def test_images_are_left_alone_unless_wanted() -> None:
    made = bench()
    made.step(Reply(200, b'<IMG SRC="bid_now.jpg">' + EMPTY_PAGE.body, closes=False))
    assert made.timers.waiting
    assert made.statistics.images == 0


def test_modifying_requests_count_when_they_change_something() -> None:
    """A page that says "Sorry" changed nothing."""
    statistics = SessionStatistics(0.0, 10.0)
    for interaction in Interaction:
        statistics.record_page(interaction, 1.0, 2.0, is_sorry=False)
        statistics.record_page(interaction, 1.0, 2.0, is_sorry=True)
    assert statistics.modifying_requests == len(MODIFYING) == 5
    assert statistics.sorry_pages == len(Interaction)


def test_pages_without_items_lead_back_until_a_request_can_be_made() -> None:
    """On a site that shows nothing a user still goes on, with the requests that need no id."""
    made = bench(scale=0.0)
    paths = {made.step().path for _ in range(3000)}
    names = {path.rpartition(".")[2] for path in paths}
    assert {"SearchItemsByCategory", "BrowseCategories", "AboutMe", "RegisterItem"} <= names
    assert not names & {"ViewItem", "StoreBid", "PutBid", "StoreComment"}
    assert made.statistics.failed_requests == 0


def test_a_page_that_found_nothing_leads_back() -> None:
    """A search has no way back: what is drawn after it is taken back to the search, or leads home."""
    made = bench(scale=0.0)
    after_search = set()
    was_search = False
    for _ in range(3000):
        made.timers.fire_next()
        path = made.requester.sent[-1].path
        if was_search:
            after_search.add(path)
        was_search = "SearchItems" in path
        body = EMPTY_PAGE.body + (b"Sorry" if was_search else b"itemId=3")
        made.requester.answer(Reply(200, body, closes=False))
    assert after_search <= {path for path in after_search if "SearchItems" in path} | {STATIC_PATHS[Interaction.HOME]}
    assert len(after_search) == 3
    assert made.statistics.sorry_pages > 500


def test_every_session_has_a_user_of_its_own() -> None:
    made = bench(scale=0.0)
    users = set()
    for _ in range(5000):
        request = made.step()
        if "password=" in request.target:
            users.add(request.target.partition("nickname=")[2])
    assert len(users) > 10


def test_the_same_seed_and_pages_give_the_same_requests() -> None:
    def requests(seed: int) -> list[HttpRequest]:
        made = bench(seed=seed)
        return [made.step() for _ in range(500)]

    assert requests(1) == requests(1)
    assert requests(1) != requests(2)


def test_the_login_for_comments_is_judged_like_any_other_page() -> None:
    assert Interaction.PUT_COMMENT_AUTH not in STATIC
    assert page_mark(Interaction.PUT_COMMENT_AUTH) == b'data-page="PutCommentAuth"'
