"""Transition tables and the walk through them."""

from collections import Counter
from dataclasses import dataclass
from functools import cache
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rubis_adapter.client_emulator.errors import InvalidTransitionTable
from rubis_adapter.client_emulator.expected import expected_shares
from rubis_adapter.client_emulator.interactions import BACK, END_OF_SESSION, MODIFYING, STATIC, Interaction
from rubis_adapter.client_emulator.transitions import COLUMNS, TransitionTable, load_mix, parse_mix
from rubis_adapter.client_emulator.walk import TRANSITIONS_MAX, SessionWalk

SESSIONS = 30_000
"""Mean session length is then known to 0.3 interactions, shares to 0.1 points."""


@dataclass(frozen=True)
class Walked:
    """What many sessions of the bidding mix did."""

    counts: Counter[Interaction]
    longest: int

    @property
    def total(self) -> int:
        return self.counts.total()

    def percent(self, *interactions: Interaction) -> float:
        return 100 * sum(self.counts[interaction] for interaction in interactions) / self.total


@cache
def walked_bidding() -> Walked:
    table, random = load_mix("bidding"), Random("test")
    counts: Counter[Interaction] = Counter()
    longest = 0
    for _ in range(SESSIONS):
        before = counts.total()
        counts.update(session(table, random))
        longest = max(longest, counts.total() - before)
    return Walked(counts, longest)


def session(table: TransitionTable, random: Random, transitions_max: int = TRANSITIONS_MAX) -> list[Interaction]:
    walk = SessionWalk(table, random, transitions_max)
    visited = [walk.current]
    while (following := walk.advance()) is not None:
        visited.append(following)
    return visited


def table_of(**rows: dict[str, float]) -> TransitionTable:
    """A table in which rows that are not given end the session."""
    lines = [
        f"{name} = {{ {', '.join(f'{column} = {p}' for column, p in rows.get(name, {END_OF_SESSION: 1}).items())} }}"
        for name in Interaction
    ]
    return parse_mix("test", "\n".join(lines))


class Script(Random):
    """Draws the given numbers."""

    def __init__(self, *draws: float) -> None:
        super().__init__(0)
        self._draws = list(draws)

    def random(self) -> float:
        return self._draws.pop(0)


def test_the_columns_are_in_the_original_order() -> None:
    """The order matters: what lies above a running sum of 1 is cut off."""
    assert ", ".join(COLUMNS) == (
        "Home, Register, RegisterUser, Browse, BrowseCategories, SearchItemsInCategory, BrowseRegions, "
        "BrowseCategoriesInRegion, SearchItemsInRegion, ViewItem, ViewUserInfo, ViewBidHistory, BuyNowAuth, BuyNow, "
        "StoreBuyNow, PutBidAuth, PutBid, StoreBid, PutCommentAuth, PutComment, StoreComment, Sell, "
        "SelectCategoryToSellItem, SellItemForm, RegisterItem, AboutMeAuth, AboutMe, Back, EndOfSession"
    )


@pytest.mark.parametrize("mix", ["bidding", "browsing"])
def test_every_row_of_the_mixes_leads_on(mix: str) -> None:
    table = load_mix(mix)
    assert set(table.rows) == set(Interaction)
    for row in table.rows.values():
        assert 0.9 < row[-1][0] <= 1.21
        assert [running_sum for running_sum, _ in row] == sorted(running_sum for running_sum, _ in row)


def test_bidding_sessions_have_51_7_interactions() -> None:
    walked = walked_bidding()
    assert abs(walked.total / SESSIONS - 51.7) <= 1
    assert walked.longest <= 1000


@pytest.mark.parametrize(
    ("interaction", "percent"),
    [
        (Interaction.SEARCH_ITEMS_IN_CATEGORY, 16.9),
        (Interaction.VIEW_ITEM, 16.3),
        (Interaction.BROWSE, 7.6),
        (Interaction.PUT_BID, 7.1),
        (Interaction.SEARCH_ITEMS_IN_REGION, 6.9),
    ],
)
def test_the_most_frequent_bidding_interactions_have_their_shares(interaction: Interaction, percent: float) -> None:
    walked = walked_bidding()
    assert abs(walked.percent(interaction) - percent) <= 0.5
    assert interaction in [name for name, _ in walked.counts.most_common(5)]


def test_bidding_visits_13_2_percent_static_pages() -> None:
    assert abs(walked_bidding().percent(*STATIC) - 13.2) <= 0.5


def test_9_2_percent_of_bidding_interactions_modify_the_database() -> None:
    walked = walked_bidding()
    assert abs(walked.percent(*MODIFYING) - 9.2) <= 0.5
    dynamic = 100 - walked.percent(*STATIC)
    assert abs(100 * walked.percent(*MODIFYING) / dynamic - 10.6) <= 0.5


def test_bidding_reaches_everything_but_the_login_for_comments() -> None:
    assert set(Interaction) - set(walked_bidding().counts) == {Interaction.PUT_COMMENT_AUTH}


def test_browsing_modifies_nothing() -> None:
    table, random = load_mix("browsing"), Random("test")
    visited = {interaction for _ in range(300) for interaction in session(table, random)}
    assert not visited & MODIFYING
    assert Interaction.VIEW_BID_HISTORY in visited


def test_the_login_for_comments_leads_to_the_form() -> None:
    """No row leads to it, so it is tested by itself."""
    for mix in ("bidding", "browsing"):
        assert load_mix(mix).draw(Interaction.PUT_COMMENT_AUTH, 0.5) == Interaction.PUT_COMMENT


def test_the_first_column_whose_running_sum_exceeds_the_draw_is_taken() -> None:
    table = table_of(Home={"Browse": 0.25, "Sell": 0.25, "AboutMe": 0.6})
    assert table.draw(Interaction.HOME, 0.0) == "Browse"
    assert table.draw(Interaction.HOME, 0.2499) == "Browse"
    assert table.draw(Interaction.HOME, 0.25) == "Sell"
    assert table.draw(Interaction.HOME, 0.5) == "AboutMe"
    assert table.draw(Interaction.HOME, 0.9999) == "AboutMe"


def test_a_draw_above_the_total_repeats_the_interaction() -> None:
    walk = SessionWalk(table_of(Home={"Browse": 0.9}), Script(0.95, 0.1))
    assert walk.advance() == Interaction.HOME
    assert walk.advance() == Interaction.BROWSE


def test_back_returns_through_everything_that_allowed_going_back() -> None:
    """Browse, ViewItem, ViewUserInfo, Back, Back: the history has both."""
    table = table_of(
        Home={"Browse": 1},
        Browse={"ViewItem": 1},
        ViewItem={"ViewUserInfo": 0.5, BACK: 0.5},
        ViewUserInfo={BACK: 1},
    )
    walk = SessionWalk(table, Script(0.0, 0.0, 0.1, 0.1, 0.9))
    assert [walk.advance() for _ in range(5)] == [
        Interaction.BROWSE,
        Interaction.VIEW_ITEM,
        Interaction.VIEW_USER_INFO,
        Interaction.VIEW_ITEM,
        Interaction.BROWSE,
    ]


def test_an_interaction_without_a_way_back_drops_the_history() -> None:
    table = table_of(
        Home={"ViewItem": 1}, ViewItem={"Browse": 0.5, BACK: 0.5}, Browse={"ViewUserInfo": 1}, ViewUserInfo={BACK: 1}
    )
    walk = SessionWalk(table, Script(0.0, 0.0, 0.0))
    assert [walk.advance() for _ in range(3)][-1] == Interaction.VIEW_USER_INFO
    assert walk.go_back() == Interaction.BROWSE
    assert walk.go_back() == Interaction.HOME, "Home and ViewItem came before Browse and are forgotten"


def test_repeating_an_interaction_with_a_way_back_adds_to_the_history() -> None:
    table = table_of(Home={"ViewUserInfo": 1}, ViewUserInfo={"ViewUserInfo": 0.5, BACK: 0.5})
    walk = SessionWalk(table, Script(0.0, 0.1, 0.9, 0.9))
    assert [walk.advance() for _ in range(4)] == [
        Interaction.VIEW_USER_INFO,
        Interaction.VIEW_USER_INFO,
        Interaction.VIEW_USER_INFO,
        Interaction.HOME,
    ]


def test_going_back_without_history_leads_home() -> None:
    walk = SessionWalk(table_of(Home={"Browse": 1}), Script(0.0))
    walk.advance()
    assert walk.go_back() == Interaction.HOME


def test_a_failure_leads_home_and_drops_the_history() -> None:
    table = table_of(Home={"Browse": 1}, Browse={"ViewItem": 1}, ViewItem={BACK: 1})
    walk = SessionWalk(table, Script(0.0, 0.0))
    walk.advance()
    walk.advance()
    assert walk.reset() == Interaction.HOME
    assert walk.go_back() == Interaction.HOME


def test_a_session_ends_at_the_latest_after_its_transitions() -> None:
    table = table_of(Home={"Home": 1})
    assert len(session(table, Random(1), transitions_max=17)) == 17


@given(st.floats(0, 1, exclude_max=True), st.sampled_from(Interaction), st.sampled_from(["bidding", "browsing"]))
def test_every_draw_gives_a_column_of_the_row_or_the_row_itself(
    uniform: float, interaction: Interaction, mix: str
) -> None:
    table = load_mix(mix)
    column = table.draw(interaction, uniform)
    assert column == interaction or column in [name for _, name in table.rows[interaction]]


def test_expected_shares_are_those_of_the_walk() -> None:
    shares = expected_shares("bidding")
    assert sum(shares.values()) == pytest.approx(1)
    for interaction in Interaction:
        assert abs(100 * shares[interaction] - walked_bidding().percent(interaction)) <= 0.3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Home = {", "no TOML"),
        ("Home = { Browse = 1 }", "missing rows"),
        ("Nowhere = { Browse = 1 }", r"unknown rows \['Nowhere'\]"),
    ],
)
def test_a_wrong_table_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InvalidTransitionTable, match=complaint):
        parse_mix("test", text)


@pytest.mark.parametrize(
    ("column", "value"), [("Nowhere", "1"), ("Browse", "1.5"), ("Browse", "-1"), ("Browse", "nan")]
)
def test_a_wrong_value_in_a_table_is_refused(column: str, value: str) -> None:
    lines = [
        f"{name} = {{ {column if name == 'Home' else 'Home'} = {value if name == 'Home' else 1} }}"
        for name in Interaction
    ]
    with pytest.raises(InvalidTransitionTable, match="Home"):
        parse_mix("test", "\n".join(lines))


def test_an_unknown_mix_is_refused() -> None:
    with pytest.raises(InvalidTransitionTable, match="bidding, browsing"):
        load_mix("selling")
