"""The report of a run, and what in it must not be.  Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.chaos.tokens import Accounts

NAMED_MAX = 20
"""Writes named in the report; their number is always there."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that was found, besides the faults."""

    requests: int
    failures: Mapping[str, int]
    accounts: Accounts | None
    """None: the databases could not be read."""
    wrong_convictions: Sequence[Mapping[str, Any]]
    state_digests: Mapping[str, str]
    domains_wanted: int
    linearizable: bool | None
    """None: not recorded, or the search was given up."""
    linearizability: str
    given_up: Sequence[str]
    """Why the run ended before its schedule."""


def report_of(faults: Sequence[Mapping[str, Any]], outcome: Outcome) -> dict[str, Any]:
    """Return the report, with `problems`: a sentence for each thing that must not be."""
    accounts = outcome.accounts
    document = {
        "requests": outcome.requests,
        "failed_requests": sum(outcome.failures.values()),
        "failures": dict(outcome.failures),
        "acknowledged_writes": None if accounts is None else accounts.acknowledged,
        "undecided_writes": None if accounts is None else accounts.undecided,
        "lost_writes": None if accounts is None else len(accounts.lost),
        "doubled_writes": None if accounts is None else len(accounts.doubled),
        "revived_writes": None if accounts is None else len(accounts.revived),
        "writes": {} if accounts is None else _named(accounts),
        "wrong_convictions": list(outcome.wrong_convictions),
        "state_digests_equal": len(set(outcome.state_digests.values())) == 1,
        "state_digests": dict(outcome.state_digests),
        "linearizable": outcome.linearizable,
        "linearizability": outcome.linearizability,
        "faults": list(faults),
    }
    document["problems"] = [*outcome.given_up, *_fault_problems(faults), *_problems(document, outcome)]
    return document


def _named(accounts: Accounts) -> dict[str, list[str]]:
    return {
        "lost": accounts.lost[:NAMED_MAX],
        "doubled": accounts.doubled[:NAMED_MAX],
        "revived": accounts.revived[:NAMED_MAX],
    }


def _fault_problems(faults: Sequence[Mapping[str, Any]]) -> list[str]:
    found = []
    for fault in faults:
        name = f"{fault['kind']} of {fault['target']}"
        if not fault["evidence"]:
            found.append(f"nothing shows that {name} took effect")
        if fault["redundancy_restored_s"] is None:
            found.append(f"redundancy was not restored after {name}")
    return found


def _problems(document: Mapping[str, Any], outcome: Outcome) -> list[str]:
    present = len(outcome.state_digests)
    checks = {
        "the load sent nothing": document["requests"] > 0,
        f"{document['failed_requests']} requests failed": document["failed_requests"] == 0,
        "the databases could not be read": outcome.accounts is not None,
        "no write was acknowledged": document["acknowledged_writes"] != 0,
        f"{document['lost_writes']} acknowledged writes are lost": not document["lost_writes"],
        f"{document['doubled_writes']} writes were executed twice": not document["doubled_writes"],
        f"{document['revived_writes']} refused writes were executed": not document["revived_writes"],
        f"domains were convicted wrongly: {_domains(outcome)}": not outcome.wrong_convictions,
        "the states of the domains differ": document["state_digests_equal"],
        f"{present} of {outcome.domains_wanted} domains gave their state": present == outcome.domains_wanted,
        "the replies are not those of one execution": outcome.linearizable is not False,
    }
    return [problem for problem, is_good in checks.items() if not is_good]


def _domains(outcome: Outcome) -> str:
    return ", ".join(str(one["domain"]) for one in outcome.wrong_convictions)


def summary_lines(document: Mapping[str, Any]) -> list[str]:
    """Return the report for people."""
    writes = (
        f"{document['acknowledged_writes']} writes acknowledged, {document['lost_writes']} lost, "
        f"{document['doubled_writes']} doubled"
    )
    requests = f"{document['requests']} requests, {document['failed_requests']} failed"
    convictions = f"{len(document['wrong_convictions'])} wrong convictions"
    states = f"states {'equal' if document['state_digests_equal'] else 'NOT EQUAL'}"
    lines = [f"{len(document['faults'])} faults under load: {requests}; {writes}; {convictions}; {states}"]
    lines += [_fault_line(fault) for fault in document["faults"]]
    return [*lines, *(f"PROBLEM: {problem}" for problem in document["problems"])]


def _fault_line(fault: Mapping[str, Any]) -> str:
    parts = [f"noticed {_quantity(fault['detected_ms'], 'ms')}", f"stall {_quantity(fault['stable_ms'], 'ms')}"]
    parts.append(f"redundancy {_quantity(fault['redundancy_restored_s'], 's')}")
    return f"  {fault['step']:>2} {fault['kind']:<18} {fault['target']:<6} {', '.join(parts)}"


def _quantity(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:g} {unit}"
