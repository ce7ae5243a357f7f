"""What commands show, and the exit codes that scripts rely on."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.catalog import Catalog
from replica_manager.control.cli.root import COMMANDS
from replica_manager.control.event_file import EventFile
from replica_manager.control.event_log import EventLog
from tests.control.conftest import LoopThread
from tests.control.fake_cell import FILE, FakeCell
from tests.images.image_directories import put_image


@pytest.fixture
def cell(tmp_path: Path, loop_thread: LoopThread) -> Iterator[FakeCell]:
    """A cell of two fake servers that serve."""
    it = FakeCell(tmp_path, loop_thread)
    yield it
    it.close()


def test_help_names_every_command_and_imports_none() -> None:
    """`spare --help` is there at once: nothing heavy is imported for it."""
    program = (
        "import sys; from replica_manager.control.cli.root import spare\n"
        "try: spare.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'rich', 'msgspec', 'libvirt', 'pyroute2', 'sqlalchemy', 'cryptography', 'prometheus_client',"
        " 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(cell: FakeCell, name: str) -> None:
    """Also with -h; the short help in the list is kept by hand and must not be empty."""
    result = cell.run(name, "-h", config=False)
    assert result.exit_code == 0, result.output
    assert "Usage: " in result.output
    assert COMMANDS[name].short_help.endswith(".")


def test_status_of_a_cell_that_serves(cell: FakeCell) -> None:
    """Servers, roles, cursors, buffered updates, last refresh, CPU on one screen."""
    result = cell.run("status")
    assert result.exit_code == 0
    for shown in ("cell shop", "serving", "leader", "41", "7 / 2.0 KiB", "100 updates in 42 ms", "12.5 s", "80.0 MiB"):
        assert shown in result.output
    rows = [line for line in result.output.splitlines() if line.strip().startswith("s1.g2")]
    assert "passive" in rows[0]
    assert "3.2 s" in rows[0]


def test_status_for_programs_has_a_version_and_every_domain_once(cell: FakeCell) -> None:
    """Each domain in the words of the server that hosts it."""
    document = json.loads(cell.run("status", "-o", "json").output)
    assert (document["schema"], document["state"], document["leader"], document["f"]) == (1, "serving", "s0", 1)
    assert [row["domain"] for row in document["domains"]] == ["s0.g1", "s0.g2", "s1.g1", "s1.g2"]
    assert all(row["cursor"] == 42 for row in document["domains"])


def test_exit_code_of_status_is_the_state_of_the_cell(cell: FakeCell) -> None:
    """0 serving, 3 degraded but serving, 4 not serving: as monitoring wants it."""
    cell.servers[1].state = "degraded"
    assert cell.run("status").exit_code == 3
    cell.servers[1].state = "serving"
    cell.stop(1)
    result = cell.run("status")
    assert result.exit_code == 3
    assert "no answer" in result.output
    cell.servers[0].state = "starting"
    assert cell.run("status").exit_code == 4
    cell.stop(0)
    assert cell.run("status").exit_code == 4
    assert cell.run("replicas").exit_code == 4


def test_topology_shows_what_runs_where(cell: FakeCell) -> None:
    """Addresses, storage, domains, witnesses."""
    result = cell.run("topology")
    assert result.exit_code == 0
    for shown in ("server 1", "127.0.0.1:7101", "domain s1.g2", "witness 0", "127.0.0.1:7250"):
        assert shown in result.output
    document = json.loads(cell.run("topology", "-o", "json").output)
    assert document["servers"][0]["domains"] == ["s0.g1", "s0.g2"]


def test_events_of_all_servers_are_in_one_order(cell: FakeCell) -> None:
    """By time; filtered by kind and server; the newest."""
    cell.servers[0].log.record("server_left", server=1)
    cell.servers[1].log.record("vote_differs", domain="s0.g1")
    cell.servers[0].log.record("vote_differs", domain="s1.g1")
    lines = cell.run("events").output.splitlines()
    assert [line.split()[2:4] for line in lines] == [
        ["s0", "server_left"],
        ["s1", "vote_differs"],
        ["s0", "vote_differs"],
    ]
    assert "s1.g1" in cell.run("events", "-n", "1").output
    document = json.loads(cell.run("events", "-k", "vote_differs", "-s", "1", "-o", "json").output)
    assert [event["data"] for event in document["events"]] == [{"domain": "s0.g1"}]
    assert cell.run("events", "-s", "9").exit_code == 2


def test_events_never_obey_what_others_sent(cell: FakeCell) -> None:
    """A client's bytes in an event must not move the operator's cursor."""
    cell.servers[0].log.record("client_rejected", text="\x1b[2Jgone\r\nnew line")
    output = cell.run("events").output
    assert "\\x1b[2Jgone\\r\\nnew line" in output
    assert "\x1b" not in output


def test_events_of_a_server_that_is_down_come_from_its_file(cell: FakeCell) -> None:
    """What happened last is most wanted when it no longer runs."""
    file = EventFile(cell.paths.event_file(1))
    log = EventLog(1, lambda: 5_000_000, file)
    log.record("removed", configuration=2)
    log.close()
    cell.stop(1)
    assert "removed: configuration 2" in cell.run("events", "-s", "1").output
    cell.stop(0)
    result = cell.run("events")
    assert result.exit_code == 4
    assert "server 0 does not answer and has left no events" in result.output


def test_explain_shows_who_said_what(cell: FakeCell) -> None:
    """Votes of all servers together; sizes from where the domain lives."""
    result = cell.run("explain", "41")
    assert result.exit_code == 0
    agreeing, differing = (line for line in result.output.splitlines() if ".g1" in line)
    assert "agrees" in agreeing
    assert "differs" in differing
    assert "120" in agreeing
    assert "120" in differing
    assert "diverged" in result.output
    assert json.loads(cell.run("explain", "41", "-o", "json").output)["votes"][1]["reply_bytes"] == 120


def test_explain_of_an_unknown_number_is_an_error_with_a_sentence(cell: FakeCell) -> None:
    """Exit code 1; a number that is none is usage."""
    result = cell.run("explain", "99")
    assert (result.exit_code, result.stderr) == (1, "error: sequence 99 is not ordered yet\n")
    assert cell.run("explain", "0").exit_code == 2
    cell.close()
    assert cell.run("explain", "41").exit_code == 4


def test_checkpoint_fails_if_states_differ(cell: FakeCell) -> None:
    """For scripts: 0 only if all are equal."""
    result = cell.run("checkpoint")
    assert (result.exit_code, "all equal" in result.output) == (0, True)
    cell.servers[0].digests["s1.g1"] = "00" * 32
    result = cell.run("checkpoint", "-o", "json")
    assert result.exit_code == 1
    document = json.loads(result.output)
    assert (document["equal"], document["point"]) == (False, 17)


def test_configuration_is_named_before_or_after_the_command_or_by_the_environment(cell: FakeCell) -> None:
    """And found as spare.toml where one stands; a missing one is a usage error."""
    file = str(cell.file)
    for words in (("-c", file, "status"), ("status", "-c", file), ("status", "--config", file)):
        assert cell.run(*words, config=False).exit_code == 0
    assert cell.run("status").exit_code == 0
    missing = cell.run("status", "-c", str(cell.file.with_name("none.toml")))
    assert missing.exit_code == 2
    assert "none.toml: error: there is no such file" in missing.stderr


def test_check_prints_every_finding_and_fails_on_errors_only(cell: FakeCell) -> None:
    """The output of `cell check` is what editors jump to."""
    assert cell.run("cell", "check").exit_code == 0
    cell.file.write_text(FILE + "[timeouts]\nheartbeat_ms = 400\n")
    warned = cell.run("cell", "check")
    assert warned.exit_code == 0
    assert f"{cell.file}:12: warning: timeouts.heartbeat_ms" in warned.output
    cell.file.write_text(FILE + "[timeouts]\nhearbeat_ms = 400\nelection_ms = 'x'\n")
    result = cell.run("cell", "check", "-o", "json")
    assert result.exit_code == 2
    document = json.loads(result.output)
    assert document["ok"] is False
    assert [finding["line"] for finding in document["findings"]] == [12, 13]
    assert document["findings"][0]["suggestion"] == "did you mean `heartbeat_ms`?"


def test_check_scores_how_much_the_replicas_have_in_common(cell: FakeCell) -> None:
    """Readable, and whole as JSON: which image each server boots, and what is in all of them."""
    catalog = Catalog(cell.file.parent / "images")
    images = [put_image(catalog, name) for name in ("site-a", "site-b")]
    servers = '[[server]]\nid = 0\nimage = "site-a"\n[[server]]\nid = 1\n'
    cell.file.write_text(
        '[cell]\nname = "shop"\nnetwork = "loopback"\n[hypervisor]\nimage_dir = "images"\n'
        f'[service]\nimage = "site-b"\n{servers}'
    )
    shown = cell.run("cell", "check")
    document = json.loads(cell.run("cell", "check", "-o", "json").output)["diversity"]

    assert shown.exit_code == 0
    assert "diversity: 0 of 100" in shown.output
    assert [part["name"] for part in document["parts"]] == ["software", "hosts", "racks", "storage"]
    assert document["images"] == {"0": images[0].image_id, "1": images[1].image_id}
    assert {"name": "python3", "versions": ["3.11.2"]} in document["same"]
    assert document["other_versions"] == []
    assert "3 packages 3 are in every server" in shown.output


def test_check_scores_nothing_that_has_mistakes(cell: FakeCell) -> None:
    """Values that stand in for wrong ones would be scored."""
    cell.file.write_text(FILE + "[timeouts]\nhearbeat_ms = 400\n")
    assert json.loads(cell.run("cell", "check", "-o", "json").output)["diversity"] is None
    assert "diversity" not in cell.run("cell", "check").output


def test_check_names_images_that_are_missing(cell: FakeCell) -> None:
    """With the command that builds them."""
    cell.file.write_text('[cell]\nname = "shop"\n[service]\nimage = "key-value"\n')
    result = cell.run("cell", "check")
    assert result.exit_code == 2
    assert "has no image 'key-value'" in result.output
    assert "spare image build key-value" in result.output


def test_errors_of_ours_are_called_so_and_have_a_traceback_only_when_asked(cell: FakeCell) -> None:
    """An operator never reads a traceback by accident."""
    cell.paths.keys.mkdir(parents=True)
    (cell.paths.keys / "authority.crt").write_text("no certificate")
    plain = cell.run("keys", "show")
    assert plain.exit_code == 1
    assert "authority.crt cannot be read" in plain.stderr
    assert "Traceback" not in plain.stderr
    assert "Traceback" in cell.run("--debug", "keys", "show").stderr


def test_mistyped_commands_are_guessed(cell: FakeCell) -> None:
    """Exit code 2, as all usage errors."""
    result = cell.run("statsu")
    assert (result.exit_code, "Did you mean 'status'?" in result.stderr) == (2, True)
    assert cell.run("server", "run", "--id", "7").exit_code == 2
    assert "it has 0, 1" in cell.run("server", "run", "--id", "7").stderr


def test_keys_are_made_shown_and_renewed(cell: FakeCell) -> None:
    """`issue` does only what is needed."""
    assert "made" in cell.run("keys", "init").output
    assert cell.run("keys", "issue").output.strip() == "issued: server-0, server-1, witness-0"
    assert "nothing" in cell.run("keys", "issue").output
    assert "nothing is due" in cell.run("keys", "renew").output
    assert "server-0, server-1, witness-0" in cell.run("keys", "renew", "--always").output
    document = json.loads(cell.run("keys", "show", "-o", "json").output)
    assert [one["name"] for one in document["certificates"]] == ["authority", "server-0", "server-1", "witness-0"]


def test_down_without_a_terminal_deletes_data_only_when_told_to(cell: FakeCell) -> None:
    """`--purge` needs `--yes`; `--dry-run` shows the plan and does nothing."""
    cell.paths.state_dir.mkdir(exist_ok=True)
    (cell.paths.state_dir / ".spare-cell").touch()
    plan = cell.run("cell", "down", "--purge", "--dry-run")
    assert (plan.exit_code, f"would delete {cell.paths.state_dir}" in plan.output) == (0, True)
    refused = cell.run("cell", "down", "--purge")
    assert (refused.exit_code, "say --yes" in refused.stderr) == (2, True)
    assert cell.paths.state_dir.exists()
    cell.close()
    assert cell.run("cell", "down", "--purge", "--yes").exit_code == 0
    assert not cell.paths.state_dir.exists()


def test_cells_of_hosts_are_started_on_their_hosts(cell: FakeCell) -> None:
    """Said in one sentence, with the command."""
    hosts = FILE.replace('network = "loopback"', 'kind = "hosts"\nwitnesses = 0\nfencing = "none"')
    for number in (0, 1):
        hosts += (
            f'[[server]]\nid = {number}\nhost = "h{number}"\npublic_address = "192.0.2.{number}:1"\n'
            f'private_address = "198.51.100.{number}:2"\n'
        )
    cell.file.write_text(hosts)
    for verb in ("up", "down"):
        result = cell.run("cell", verb)
        assert (result.exit_code, "spare server run --id N" in result.stderr) == (2, True)


def test_images_are_listed_and_verified(cell: FakeCell, tmp_path: Path) -> None:
    """An empty catalog is no error."""
    empty = str(tmp_path / "images")
    assert json.loads(cell.run("image", "list", "-d", empty, "-o", "json").output)["images"] == []
    assert cell.run("image", "verify", "-d", empty).exit_code == 0
    unknown = cell.run("image", "verify", "nothing", "-d", empty)
    assert (unknown.exit_code, "spare image build nothing" in unknown.stderr) == (1, True)
    assert "key-value" in cell.run("image", "build").output


def test_version_and_completion(cell: FakeCell) -> None:
    """For packagers and shells."""
    assert cell.run("version").output.startswith("spare ")
    assert "_SPARE_COMPLETE" in cell.run("completion", "bash").output
