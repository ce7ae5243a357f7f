"""A domain that lies to its clients: server 1's image changes one byte of every third reply.

The reply that a client gets is the one that two virtual machines agreed on.
"""

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from exec_wrapper.examples.key_value import PUT
from exec_wrapper.examples.key_value_commands import OK, encode_echo, encode_field, encode_get, encode_set
from images.catalog import Catalog, Image
from replica_manager.intake.port import Outcome
from replica_manager.voting.vote_count import vote_digest
from tests.vm.framed_users import Answer, FramedUsers, User, framed_users
from tests.vm.vm_cell import VmCell, running
from tests.vm.waiting import until

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(3600)]

LIES_EVERY = 3
"""The variant's argument: replies to sequence numbers that this divides are wrong."""
USERS_PER_SERVER = 12
HONEST, LIAR = "s0.g1", "s1.g1"


@dataclass
class Asked:
    """A request and what is right for it."""

    user: User
    number: int
    reply: bytes
    update: bytes
    answer: "Future[Answer]"

    @property
    def key(self) -> tuple[str, int]:
        """What `explain` calls it."""
        return self.user.client.hex(), self.number


@pytest.fixture(scope="module")
def cell(directory: Path, catalog: Catalog, key_value_image: Image, lying_image: Image) -> Iterator[VmCell]:
    """Server 0 is honest, server 1 runs the lying image."""
    sections = f"""
[service]
image = "{key_value_image.image_id}"
listen = "framed"

[[server]]
id = 0

[[server]]
id = 1
image = "{lying_image.image_id}"
"""
    cell = VmCell(directory, "t-wrong-reply", catalog.directory, sections, head="fault_injection = true\n")
    with running(cell):
        yield cell


def _explanations(cell: VmCell) -> dict[tuple[str, int], dict[str, Any]]:
    """Return what server 0 knows of every request, by client and number."""
    found = {}
    for sequence in range(1, cell.status(0)["delivered"] + 1):
        row = cell.explain(0, sequence)
        if row["kind"] == "request":
            found[row["client"], row["number"]] = row
    return found


def _ask_all(users: list[User], round_number: int) -> list[Asked]:
    """Let every user store, read or echo a value of their own, in turns."""
    asked = []
    for user in users:
        key, value = b"key-" + user.client, b"value of " + user.client
        payload, reply, update = [
            (encode_set(key, value), OK, PUT + encode_field(key) + encode_field(value)),
            (encode_get(key), OK + encode_field(value), b""),
            (encode_echo(value), OK + encode_field(value), b""),
        ][round_number % 3]
        answer = user.send(payload)
        asked.append(Asked(user, user.number, reply, update, answer))
    return asked


def _settled(cell: VmCell, asked: list[Asked]) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the explanations once every request was answered or has two different votes; else nothing."""
    answered = {one.key for one in asked if one.answer.done()}
    rows = _explanations(cell)  # looked up afterwards, so that what is answered is among them
    is_settled = all(one.key in answered or rows.get(one.key, {}).get("outcome") == "diverged" for one in asked)
    return rows if is_settled else {}


def _converse(cell: VmCell, users: FramedUsers) -> tuple[list[Asked], dict[tuple[str, int], dict[str, Any]]]:
    """Have users talk to both servers until each is stuck or has asked three things."""
    going_on = [users.enter(server) for server in cell.servers for _ in range(USERS_PER_SERVER)]
    everything: list[Asked] = []
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for round_number in range(3):
        asked = _ask_all(going_on, round_number)
        everything += asked
        rows = until(partial(_settled, cell, asked), "every request is answered or contested")
        going_on = [one.user for one in asked if one.answer.done()]
        assert going_on, "everybody is stuck"
    return everything, rows


def test_wrong_bytes_reach_no_client_and_explain_names_who_said_what(cell: VmCell) -> None:
    """Every answered reply is right; contested requests stay open while later ones are answered."""
    with framed_users(cell) as users:
        everything, rows = _converse(cell, users)

        contested = [one for one in everything if rows[one.key]["sequence"] % LIES_EVERY == 0]
        agreed = [one for one in everything if one not in contested]
        assert len(contested) >= 5
        assert len(agreed) >= 10
        assert {one.user.server for one in contested} == {0, 1} == {one.user.server for one in agreed}
        for one in agreed:
            assert one.answer.result(0) == (Outcome.ANSWERED, one.reply)
        for one in contested:
            assert not one.answer.done()
            _require_named(cell, one, rows[one.key]["sequence"])
        _require_events(cell, {rows[one.key]["sequence"] for one in contested})
        _require_sleepers_below(cell, min(rows[one.key]["sequence"] for one in contested))


def _require_named(cell: VmCell, one: Asked, sequence: int) -> None:
    """`spare explain` says what either domain voted for: one the right reply, one a reply with a byte changed."""
    found = cell.ask_spare("explain", str(sequence))
    assert found["outcome"] == "diverged"
    assert found["stable_digest"] is None
    votes = {vote["domain"]: vote for vote in found["votes"]}
    assert set(votes) == {HONEST, LIAR}
    assert {vote["verdict"] for vote in votes.values()} == {"differs"}
    middle = len(one.reply) // 2
    wrong = one.reply[:middle] + bytes([one.reply[middle] ^ 1]) + one.reply[middle + 1 :]
    assert votes[HONEST]["digest"] == vote_digest(one.reply, one.update).hex()
    assert votes[LIAR]["digest"] == vote_digest(wrong, one.update).hex()


def _require_events(cell: VmCell, contested: set[int]) -> None:
    """Both servers have told of every contested request, and of no other."""
    events = cell.events("vote_diverged")
    for server in cell.servers:
        assert {event["data"]["sequence"] for event in events if event["server"] == server} == contested
    images = {event["data"]["domain"]: event["data"]["image"] for event in cell.events("domain_ready")}
    assert "wrong-reply" in images[LIAR]
    assert "wrong-reply" not in images[HONEST]


def _require_sleepers_below(cell: VmCell, first_contested: int) -> None:
    """No passive domain has been handed anything from the first contested request on."""
    sleepers = cell.domains("passive")
    assert set(sleepers) == {"s0.g2", "s1.g2"}
    for row in sleepers.values():
        assert row["cursor"] <= first_contested
    for server in cell.servers:
        assert cell.status(server)["stable"] == first_contested - 1


def test_an_operator_reads_the_disagreement_in_a_table(cell: VmCell) -> None:
    """`spare explain` without options: the outcome, and a line for each of the two domains."""
    with framed_users(cell) as users:
        user = users.enter(1)
        for _ in range(10 * LIES_EVERY):
            asked = Asked(user, user.number + 1, b"", b"", user.send(encode_echo(b"black is black")))
            rows = until(partial(_settled, cell, [asked]), "the request is answered or contested")
            if not asked.answer.done():
                break
        sequence = rows[asked.key]["sequence"]
        assert sequence % LIES_EVERY == 0
        text = cell.spare("explain", str(sequence))
    assert "diverged" in text
    for domain in (HONEST, LIAR):
        assert any(domain in line and "differs" in line for line in text.splitlines()), text
