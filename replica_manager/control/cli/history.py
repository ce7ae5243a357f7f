"""`spare events`, `spare history`, `spare explain`."""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from replica_manager.control.cli.exit_codes import ExitCode
from replica_manager.control.cli.options import Settings, config_option, output_option
from replica_manager.control.cli.output import console, print_json, state_text, table, time_text

if TYPE_CHECKING:
    from replica_manager.audit.chain import Chain
    from replica_manager.audit.verification import Verification
    from replica_manager.config import Config

ANSWER_TIMEOUT_S = 10.0


@click.command()
@config_option
@output_option
@click.option("-f", "--follow", is_flag=True, help="Go on with every new event until Ctrl-C.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Newest events shown.")
@click.option("-k", "--kind", "kinds", multiple=True, help="Only this kind; may be given again.")
@click.option("-s", "--server", "servers", type=int, multiple=True, help="Only this server; may be given again.")
@click.pass_obj
def events(
    settings: Settings, output: str, follow: bool, limit: int, kinds: tuple[str, ...], servers: tuple[int, ...]
) -> int:
    """Show what happened on all servers, oldest first; of a server that is down, what its event file has."""
    from replica_manager.control.event_reader import EventQuery, follow_events, read_events

    config = settings.load()
    wanted = _wanted_servers(config, servers)
    query = EventQuery(limit, list(kinds) or None)
    if not follow:
        _show_events(read_events(config, wanted, query), output)
        return ExitCode.OK
    try:
        for event in follow_events(config, wanted, query):
            click.echo(json.dumps(event) if output == "json" else _event_line(event))
    except KeyboardInterrupt:
        pass  # that is how following ends
    return ExitCode.OK


@click.command()
@config_option
@output_option
@click.option("-n", "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Newest changes shown.")
@click.option(
    "--verify", "is_verified", is_flag=True, help="Instead, verify the audit logs; exit code 1: they are not intact."
)
@click.pass_obj
def history(settings: Settings, output: str, limit: int, is_verified: bool) -> int:
    """Show every change of roles and members, with its evidence, oldest first, and every server's generations.

    From the audit logs on this machine, whether the cell runs or not.  Each is a chain of hashes: --verify names the
    first record of a log that was changed, records that are missing, also at its end, and positions of the agreed order
    at which the servers' logs contradict each other.
    """
    from replica_manager.audit.verification import read_chains

    config = settings.load()
    if is_verified:
        return _verify(config, output)
    chains = read_chains(config)
    broken = [server for server, chain in chains.items() if chain.first_break]
    if output == "json":
        _print_history(chains, limit)
    else:
        _show_history(chains, limit)
    if broken:
        names = ", ".join(f"server {server}" for server in broken)
        click.echo(f"the audit log of {names} is broken: spare history --verify", err=True)
    return ExitCode.OK


@click.command()
@click.argument("sequence", type=click.IntRange(min=1))
@config_option
@output_option
@click.pass_obj
def explain(settings: Settings, sequence: int, output: str) -> int:
    """Show who said what about SEQUENCE: every domain's vote, and what came of it."""
    from replica_manager.control.explanation import explain_sequence

    found = explain_sequence(settings.load(), sequence, ANSWER_TIMEOUT_S)
    if output == "json":
        print_json(found)
    else:
        _show_explanation(found)
    return ExitCode.OK


def _print_history(chains: "Mapping[int, Chain]", limit: int) -> None:
    from replica_manager.audit.changes import changes_of, generations_of

    generations = {
        str(server): [one._asdict() for one in domains] for server, domains in generations_of(chains).items()
    }
    changes = [change._asdict() for change in changes_of(chains)[-limit:]]
    print_json({"changes": changes, "generations": generations})


def _show_history(chains: "Mapping[int, Chain]", limit: int) -> None:
    from replica_manager.audit.changes import changes_of, generations_of

    rows = [
        [
            time_text(change.at_us),
            change.position or None,
            change.subject,
            state_text(change.what),
            _printable(change.evidence),
            " ".join(f"s{server}" for server in change.servers),
        ]
        for change in changes_of(chains)[-limit:]
    ]
    columns = ("TIME", "POSITION", "SUBJECT", "CHANGE", "EVIDENCE", "KNOWN BY")
    out = console()
    out.print(table(columns, rows, right=("POSITION",)))
    present = [
        [
            f"s{server}",
            " → ".join(domain.domain.partition(".")[2] for domain in domains),
            ", ".join(f"{domain.domain} {domain.role}" for domain in domains if domain.role != "retired"),
        ]
        for server, domains in generations_of(chains).items()
    ]
    if present:
        out.print(table(("SERVER", "GENERATIONS", "NOW"), present))


def _verify(config: "Config", output: str) -> int:
    import time

    from replica_manager.audit.verification import verify

    found = verify(config, time.time_ns() // 1000)
    if output == "json":
        logs = [
            {
                "server": log.server,
                "file": str(log.file),
                "records": log.record_count,
                "head": log.head,
                "problems": list(log.problems),
                "notes": list(log.notes),
            }
            for log in found.logs
        ]
        print_json({"ok": found.is_intact, "logs": logs, "contradictions": list(found.contradictions)})
    else:
        _show_verification(found)
    return ExitCode.OK if found.is_intact else ExitCode.ERROR


def _show_verification(found: "Verification") -> None:
    for log in found.logs:
        state = "BROKEN" if log.problems else "intact"
        click.echo(f"server {log.server}: {state}: {log.record_count} records in {log.file}; head {log.head or 'none'}")
        for line in log.problems:
            click.echo(f"  {_printable(line)}")
        for line in log.notes:
            click.echo(f"  note: {_printable(line)}")
    for line in found.contradictions:
        click.echo(f"CONTRADICTION: {_printable(line)}")
    if not found.logs:
        click.echo("no audit logs on this machine", err=True)


def _wanted_servers(config: "Config", servers: tuple[int, ...]) -> list[int]:
    known = [server.id for server in config.server]
    for server in servers:
        if server not in known:
            raise click.BadParameter(f"the cell has no server {server}", param_hint="--server")
    return sorted(set(servers)) or known


def _show_events(found: Iterable[Mapping[str, Any]], output: str) -> None:
    if output == "json":
        print_json({"events": list(found)})
        return
    for event in found:
        click.echo(_event_line(event))


def _event_line(event: Mapping[str, Any]) -> str:
    """Return an event for people; control characters of what others sent are shown, not obeyed."""
    text = _printable(str(event["text"]))
    source = f"s{event['server']}" if event["server"] >= 0 else "keeper"
    return f"{time_text(event['at_us'])}  {source:<2}  {event['kind']:<24}  {text}"


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _show_explanation(found: Mapping[str, Any]) -> None:
    from rich.text import Text

    out = console()
    out.print(Text.assemble((f"sequence {found['sequence']}", "bold"), "  ", state_text(str(found.get("outcome")))))
    facts = {
        "kind": found.get("kind"),
        "command": found.get("command"),
        "client": found.get("client"),
        "number": found.get("number"),
        "agreed time": time_text(found["timestamp_us"]) if found.get("timestamp_us") else None,
        "request": f"{found['payload_bytes']} bytes" if found.get("payload_bytes") is not None else None,
        "stable digest": found.get("stable_digest"),
    }
    for name, value in facts.items():
        if value is not None:
            out.print(Text(f"  {name:<14} {value}"))
    rows = [
        [
            vote["domain"],
            f"s{vote.get('server')}",
            state_text(str(vote.get("verdict"))),
            vote.get("reply_bytes"),
            vote.get("update_bytes"),
            vote.get("digest"),
        ]
        for vote in found.get("votes", ())
    ]
    if rows:
        columns = ("DOMAIN", "SERVER", "VOTE", "REPLY BYTES", "UPDATE BYTES", "DIGEST")
        out.print(table(columns, rows, right=("REPLY BYTES", "UPDATE BYTES")))
