"""The client table's bound: who is forgotten, and when.

Source: design "Client table".
"""

from replica_manager.cell.client_table import PAYLOAD_DIGEST_BYTES, ClientTable, Verdict
from replica_manager.identifiers import CLIENT_ID_BYTES, ClientId

ONE, TWO, THREE = (ClientId(bytes([number]) * CLIENT_ID_BYTES) for number in (1, 2, 3))


def full_table() -> ClientTable:
    table = ClientTable(2)
    table.open(ONE, 1)
    table.open(TWO, 2)
    return table


def known(table: ClientTable) -> list[bytes]:
    return [row[:CLIENT_ID_BYTES] for row in table.rows()]


def test_as_many_clients_as_the_bound_says_are_known() -> None:
    assert known(full_table()) == [ONE, TWO]


def test_one_client_more_has_the_least_recently_used_one_forgotten() -> None:
    """A request and a repetition both count as use; a refusal does not."""
    table = full_table()
    table.judge(ONE, 1, b"x", 3)
    table.open(THREE, 4)
    assert known(table) == [ONE, THREE]
    assert table.judge(ONE, 1, b"x", 5) == Verdict(repeats_sequence=3)
    assert known(table) == [THREE, ONE]
    table.judge(THREE, 0, b"x", 6)
    assert known(table) == [THREE, ONE]


def test_a_new_client_has_sent_nothing_that_could_be_repeated() -> None:
    """Number 0 with any payload is no repetition."""
    table = full_table()
    number, digest = bytes(8), bytes(PAYLOAD_DIGEST_BYTES)
    assert list(table.rows()) == [ONE + number + sequence(1) + digest, TWO + number + sequence(2) + digest]


def sequence(number: int) -> bytes:
    return number.to_bytes(8)
