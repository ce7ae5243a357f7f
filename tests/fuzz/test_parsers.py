"""Every parser, with mutants of recorded traffic and with any bytes: its own errors come out, and nothing else.

The long run is `python -m tests.fuzz`.
"""

import time
import typing
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agreement.messages import Message, decode_message, encode_message
from exec_wrapper.framing import decode_from_wrapper, decode_to_wrapper
from exec_wrapper.wire import FromWrapper, ToWrapper
from replica_manager.cell.entries import CellEntry, decode_entry
from replica_manager.peer_messages import PeerMessage
from tests.fuzz import corpus
from tests.fuzz.in_process import CPU_SECONDS_MAX, FINDINGS_MAX, MEMORY_GROWTH_BYTES_MAX, Outcome, fuzz
from tests.fuzz.mutations import Mutator
from tests.fuzz.parsers import Parser, make_parsers

NAMES = [
    "http",
    "framed-requests",
    "framed-answers",
    "service-requests",
    "peer-frames",
    "peer-stream",
    "peer-tls",
    "agreement-messages",
    "agreement-batches",
    "cell-entries",
    "to-wrapper-frames",
    "from-wrapper-frames",
    "wrapper-channel",
    "wrapper",
    "control-lines",
    "admin-requests",
    "state-files",
]


@pytest.fixture(scope="module")
def parsers() -> Iterator[dict[str, Parser]]:
    """All parsers by name."""
    with ExitStack() as stack:
        yield {parser.name: parser for parser in make_parsers(stack)}


def test_no_parser_is_forgotten(parsers: dict[str, Parser]) -> None:
    """The list of this module is the list of the long run."""
    assert list(parsers) == NAMES


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_mutants_of_recorded_traffic_are_taken_or_refused(parsers: dict[str, Parser], name: str, seed: int) -> None:
    """A parser raises what it documents; where its stream was cut changes nothing."""
    parser, mutator = parsers[name], Mutator(parsers[name].corpus, seed)
    for _ in range(5):
        take(parser, mutator.mutant())


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=100)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_taken_or_refused(parsers: dict[str, Parser], name: str, data: bytes) -> None:
    """Also what no traffic resembles."""
    take(parsers[name], data)


def take(parser: Parser, data: bytes) -> None:
    reason = "taken"
    try:
        parser.parse(data)
    except parser.refusals as refusal:
        reason = str(refusal)
    assert reason, "a refusal has a reason"


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {"wrapper-channel", "control-lines"}])
def test_recorded_traffic_itself_is_taken(parsers: dict[str, Parser], name: str) -> None:
    """Otherwise its mutants would test the first check of each parser only."""
    refused = []
    for sample in parsers[name].corpus:
        try:
            parsers[name].parse(sample)
        except parsers[name].refusals as refusal:
            refused.append(str(refusal))
    assert len(refused) <= len(parsers[name].corpus) // 4, refused


def kinds(union: Any) -> set[str]:
    return {member.__name__ for member in typing.get_args(union)}


def test_the_corpus_has_every_kind_of_message() -> None:
    """A new kind of message has to be added to what is mutated."""
    assert {type(message).__name__ for message in corpus.peer_messages()} == kinds(PeerMessage)
    assert {type(decode_entry(entry)).__name__ for entry in corpus.cell_entries()} == kinds(CellEntry)
    to_wrapper = [message for data in corpus.to_wrapper_stream() for message in decode_to_wrapper().feed(data)]
    assert {type(message).__name__ for message in to_wrapper} == kinds(ToWrapper)
    from_wrapper = [message for data in corpus.from_wrapper_stream() for message in decode_from_wrapper().feed(data)]
    assert {type(message).__name__ for message in from_wrapper} == kinds(FromWrapper)


def test_recorded_messages_are_what_members_say() -> None:
    """Agreement's own decoder takes them."""
    for message in corpus.peer_messages():
        if type(message).__name__ in kinds(Message):
            assert decode_message(encode_message(typing.cast(Message, message))) == message


# -- does the fuzzer find anything? ----------------------------------------------------------------------------


def ignore(_outcome: Outcome) -> None:
    """Progress is of no interest here."""


def planted(parse: Any) -> Outcome:
    return fuzz(Parser("planted", corpus.framed_requests(), parse, (ValueError,)), 2000, 1, ignore)


def test_a_parser_that_raises_something_else_is_found_with_what_broke_it() -> None:
    """The mutant is told, and breaks it again."""

    def parse(data: bytes) -> None:
        if data[4:5] != b"\x94":
            raise ValueError("refused in good form")
        data[100]

    outcome = planted(parse)
    assert len(outcome.findings) >= FINDINGS_MAX
    assert not outcome.is_good
    with pytest.raises(IndexError):
        parse(outcome.findings[0].mutant)


def test_a_parser_that_keeps_what_it_was_given_is_found() -> None:
    """Memory must stay flat."""
    kept: list[bytes] = []
    outcome = planted(lambda data: kept.append(data.ljust(1) * (256 * 1024 // max(1, len(data)))))
    assert outcome.memory_growth_bytes > MEMORY_GROWTH_BYTES_MAX
    assert not outcome.is_good


def test_a_parser_that_takes_the_square_of_its_input_is_found() -> None:
    """Time must stay flat too."""

    def parse(data: bytes) -> None:
        until = time.process_time() + (1.2 * CPU_SECONDS_MAX if len(data) > 1000 else 0)
        while time.process_time() < until:
            pass

    assert "s of CPU" in planted(parse).findings[0].what


def test_a_good_parser_is_good() -> None:
    """No finding without a cause."""
    outcome = planted(lambda data: None)
    assert outcome.is_good
    assert (outcome.taken, outcome.refused) == (2000, 0)
