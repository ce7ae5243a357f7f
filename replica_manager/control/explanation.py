"""Who said what about one sequence number, put together from all servers."""

from collections.abc import Mapping
from typing import Any

from replica_manager.config import Config
from replica_manager.control.cell_view import connect_to_servers
from replica_manager.control.errors import ControlUnavailable, RequestRefused


def explain_sequence(config: Config, sequence: int, timeout_s: float) -> dict[str, Any]:
    """Return the explanation of `sequence`.

    Every server knows the digests of all votes, but the sizes only of values that it has itself: rows are merged.

    Raises:
        RequestRefused: no server knows the number (any more, or yet).
        ControlUnavailable: no server answers.
    """
    found: dict[str, Any] | None = None
    refusal: Exception | None = None
    for _, client in connect_to_servers(config, timeout_s):
        try:
            answer = client.call("explain", sequence=sequence)
        except (RequestRefused, ControlUnavailable) as error:
            refusal = error
            continue
        found = answer if found is None else _merge(found, answer)
    if found is not None:
        return found
    assert refusal is not None, "a server that neither answers nor refuses is unavailable"
    raise refusal


def _merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return one explanation with the votes of both, each in the words that say more."""
    votes: dict[str, Mapping[str, Any]] = {vote["domain"]: vote for vote in first.get("votes", ())}
    for vote in second.get("votes", ()):
        known = votes.get(vote["domain"])
        if known is None or _facts(vote) > _facts(known):
            votes[vote["domain"]] = vote
    newer = second if second.get("stable_digest") and not first.get("stable_digest") else first
    return {**newer, "votes": [votes[domain] for domain in sorted(votes)]}


def _facts(vote: Mapping[str, Any]) -> int:
    return sum(value is not None for value in vote.values())
