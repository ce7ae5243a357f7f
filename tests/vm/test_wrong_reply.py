"""A domain that lies to its clients: on order, server 1's active domain changes its replies.

The reply that a client gets is the one that two virtual machines agreed on.
"""

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from exec_wrapper.examples.key_value import PUT
from exec_wrapper.examples.key_value_commands import OK, encode_echo, encode_field, encode_get, encode_set
from images.catalog import Catalog, Image
from images.fault_orders import FaultKind, FaultOrder, key_value_read
from replica_manager.intake.port import Outcome
from replica_manager.voting.vote_count import vote_digest
from tests.vm.framed_users import Answer, FramedUsers, User, framed_users
from tests.vm.vm_cell import VmCell, running
from tests.vm.waiting import PATIENCE_S, until

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(3600)]

USERS_PER_SERVER = 12
HONEST, LIAR = "s0.g1", "s1.g1"
HONEST_REQUESTS = 5
"""So many the liar executes faithfully before it begins."""
ROUNDS = 3


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
def cell(directory: Path, catalog: Catalog, treacherous_image: Image) -> Iterator[VmCell]:
    """All domains run an image that would obey; one is ordered to lie."""
    sections = f"""
[service]
image = "{treacherous_image.image_id}"
listen = "framed"
"""
    cell = VmCell(directory, "t-wrong-reply", catalog.directory, sections, head="fault_injection = true\n")
    with running(cell):
        yield cell


def _ask_all(users: list[User], round_number: int) -> list[Asked]:
    """Let every user store, read or echo a value of their own, in turns."""
    asked = []
    for user in users:
        key, value = b"key-" + user.client, b"value of " + user.client
        payload, reply, update = [
            (encode_set(key, value), OK, PUT + encode_field(key) + encode_field(value)),
            (encode_get(key), OK + encode_field(value), b""),
            (encode_echo(value), OK + encode_field(value), b""),
        ][round_number % ROUNDS]
        answer = user.send(payload)
        asked.append(Asked(user, user.number, reply, update, answer))
    return asked


def _converse(cell: VmCell, users: FramedUsers) -> list[Asked]:
    """Have users talk to both servers, each storing, reading and echoing; every reply is the right one."""
    people = [users.enter(server) for server in cell.servers for _ in range(USERS_PER_SERVER)]
    order = FaultOrder(1, LIAR, FaultKind.WRONG_REPLY, first=HONEST_REQUESTS, amount=1000)
    people[0].ask(key_value_read(order))
    everything: list[Asked] = []
    for round_number in range(ROUNDS):
        asked = _ask_all(people, round_number)
        for one in asked:
            assert one.answer.result(PATIENCE_S) == (Outcome.ANSWERED, one.reply)
        everything += asked
    return everything


def _contradictions(cell: VmCell) -> set[int]:
    """Return the numbers on which both servers have found the liar out."""
    events = [event for event in cell.events("vote_contradicts") if event["data"]["domain"] == LIAR]
    found = [{event["data"]["sequence"] for event in events if event["server"] == server} for server in cell.servers]
    return set.intersection(*found)


def test_wrong_bytes_reach_no_client_and_the_liar_loses_its_role(cell: VmCell) -> None:
    """Every reply is right; the domain whose votes differ is convicted, nobody else is, and `explain` shows why."""
    with framed_users(cell) as users:
        everything = _converse(cell, users)
    until(lambda: LIAR not in cell.domains("active"), "the liar has lost its role")
    contested = min(until(lambda: _contradictions(cell), "both servers name the liar"))
    accused = {event["data"]["domain"] for event in cell.events("vote_contradicts")}
    assert accused == {LIAR}
    found = cell.ask_spare("explain", str(contested))
    one = next(one for one in everything if one.key == (found["client"], found["number"]))
    _require_named(found, one)
    _require_table(cell.spare("explain", str(contested)), contested)
    for sequence in range(1, cell.status(0)["delivered"] + 1):
        assert cell.explain(0, sequence)["outcome"] == "stable", sequence


def _require_named(found: dict[str, Any], one: Asked) -> None:
    """The right reply is the stable one, the honest domain voted for it, the liar for something else."""
    right = vote_digest(one.reply, one.update).hex()
    assert (found["outcome"], found["stable_digest"]) == ("stable", right)
    votes = {vote["domain"]: vote for vote in found["votes"]}
    assert (votes[HONEST]["verdict"], votes[HONEST]["digest"]) == ("agrees", right)
    assert votes[LIAR]["verdict"] == "differs"
    assert votes[LIAR]["digest"] != right
    assert sum(vote["verdict"] == "agrees" for vote in votes.values()) >= 2


def _require_table(text: str, sequence: int) -> None:
    """`spare explain` without options: the outcome, and a line for each domain that voted."""
    assert f"sequence {sequence}" in text
    assert "stable" in text
    for domain, verdict in ((HONEST, "agrees"), (LIAR, "differs")):
        assert any(domain in line and verdict in line for line in text.splitlines()), text
