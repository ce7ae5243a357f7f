"""The judge of power cuts finds what is lost, doubled or foreign, and nothing else."""

from tests.power_loss.tokens import TOKENS_PER_KEY, Ledger, Token, judge


def _ledger(acknowledged: int, sent: int) -> Ledger:
    ledger = Ledger()
    for index in range(sent):
        ledger.send(Token(1, 2, index))
    for index in range(acknowledged):
        ledger.acknowledge(Token(1, 2, index))
    return ledger


def test_everything_there_once_is_right() -> None:
    """What was not acknowledged may be there or not."""
    assert judge(_ledger(2, 3), [(b"1.2.0", b"1.2.0;1.2.1;")]).is_right
    assert judge(_ledger(2, 3), [(b"1.2.0", b"1.2.0;1.2.1;1.2.2;")]).is_right


def test_an_acknowledged_token_that_is_not_there_is_lost() -> None:
    """Also when a whole key is missing."""
    assert judge(_ledger(2, 2), [(b"1.2.0", b"1.2.0;")]).lost == (b"1.2.1",)
    assert judge(_ledger(2, 2), []).lost == (b"1.2.0", b"1.2.1")


def test_a_token_that_is_there_twice_is_doubled() -> None:
    """Acknowledged or not."""
    assert judge(_ledger(1, 1), [(b"1.2.0", b"1.2.0;1.2.0;")]).doubled == (b"1.2.0",)
    assert judge(_ledger(0, 1), [(b"1.2.0", b"1.2.0;1.2.0;")]).doubled == (b"1.2.0",)


def test_what_nobody_sent_is_foreign() -> None:
    """Also a token under the key of another one."""
    assert judge(_ledger(1, 1), [(b"1.2.0", b"1.2.0;1.2.9;")]).foreign == (b"1.2.9",)
    misplaced = judge(_ledger(1, 1), [(b"1.2.7", b"1.2.0;")])
    assert (misplaced.lost, misplaced.foreign) == ((b"1.2.0",), (b"1.2.0",))


def test_keys_hold_a_few_tokens_each() -> None:
    """Else every append would write a growing value."""
    assert Token(1, 2, TOKENS_PER_KEY - 1).key != Token(1, 2, TOKENS_PER_KEY).key
