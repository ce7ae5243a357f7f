"""Messages that rely on a write wait for it, in order, and for nothing else."""

import pytest

from agreement.identifiers import Identity
from agreement.messages import Announce, Message
from agreement.output import NOTHING, Outbox
from agreement.storage import Put
from tests.agreement.local_cell import S0, S1

ONE, TWO, THREE = Announce(1, 1), Announce(1, 2), Announce(1, 3)


@pytest.fixture
def outbox() -> Outbox:
    """Of server 0."""
    return Outbox(Identity(S0, 1))


def sends(outbox: Outbox) -> list[Message]:
    """What may go out now."""
    return [message for _, message in outbox.take().sends]


def test_without_a_write_under_way_nothing_waits(outbox: Outbox) -> None:
    """An idle disk costs no time."""
    outbox.send_when_durable(S1, ONE)
    assert sends(outbox) == [ONE]
    assert outbox.take() is NOTHING


def test_a_message_waits_for_what_was_written_before_it(outbox: Outbox) -> None:
    """Also for writes that the caller has not seen yet."""
    outbox.write(Put(b"1", b""))
    outbox.send_when_durable(S1, ONE)
    outbox.send(S1, TWO)
    output = outbox.take()
    assert ([message for _, message in output.sends], output.token) == ([TWO], 1)
    outbox.send_when_durable(S1, THREE)
    assert sends(outbox) == []
    outbox.persisted(1)
    assert sends(outbox) == [ONE, THREE]


def test_one_token_stands_for_all_smaller_ones(outbox: Outbox) -> None:
    """Batches that come during a sync are made durable by the next one together."""
    for message in (ONE, TWO, THREE):
        outbox.write(Put(b"1", b""))
        outbox.send_when_durable(S1, message)
        assert outbox.take().sends == ()
    outbox.persisted(2)
    assert sends(outbox) == [ONE, TWO]
    outbox.persisted(1)
    assert sends(outbox) == []
    outbox.persisted(3)
    assert sends(outbox) == [THREE]


def test_what_a_member_says_to_itself_is_kept_inside(outbox: Outbox) -> None:
    """Its own vote counts when it is durable, like every other."""
    outbox.write(Put(b"1", b""))
    outbox.send_when_durable(S0, ONE)
    outbox.take()
    assert not outbox.local
    outbox.persisted(1)
    assert list(outbox.local) == [ONE]
    assert outbox.take() is NOTHING


def test_a_token_that_was_never_given_out_is_a_mistake(outbox: Outbox) -> None:
    """Nothing can be durable that was not handed over."""
    with pytest.raises(AssertionError, match="never given out"):
        outbox.persisted(1)
