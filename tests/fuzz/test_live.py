"""A short attack on every port of real cells.  The long one is `python -m tests.fuzz`."""

import asyncio
from pathlib import Path

import pytest

from replica_manager.execution.wrapper_link import LinkEndReason
from tests.fuzz import corpus
from tests.fuzz.hostile_links import attack_links
from tests.fuzz.live import besiege
from tests.fuzz.mutations import Mutator

MUTANTS = 200


@pytest.mark.slow
@pytest.mark.parametrize("listen", ["framed", "http"])
def test_garbage_on_every_port_harms_neither_managers_nor_correct_clients(listen: str) -> None:
    """Managers run on and stay small, each correct answer comes, every refusal is a named event."""
    lines: list[str] = []
    siege = besiege(listen, MUTANTS, 3, lines.append)
    assert siege.findings == [], "\n".join(lines)
    assert siege.answered > 50
    assert {kind for _, kind in siege.named} == {
        "client_rejected",
        "control_garbage",
        "admin_refused",
        "peer_refused",
        "domain_gone",
    }
    assert min(siege.named.values()) > 0


def test_links_to_domains_that_turn_hostile_end_once_and_for_the_right_reason(tmp_path: Path) -> None:
    """Over a real socket, in the pieces in which it delivers."""
    mutator = Mutator(corpus.from_wrapper_stream(), 3)
    ends = asyncio.run(attack_links(tmp_path / "channel", [mutator.mutant() for _ in range(MUTANTS)]))
    assert sum(ends.values()) == MUTANTS
    assert ends[LinkEndReason.MISBEHAVIOUR] > MUTANTS // 2
