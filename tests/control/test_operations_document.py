"""`docs/operations.md` names every command, exit code and metric, and none that there is not."""

import re
from pathlib import Path

import click

from replica_manager.control.cli.exit_codes import ExitCode
from replica_manager.control.cli.root import spare
from replica_manager.control.metrics import new_registry, render
from tests.control.test_metrics import STATUS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


def section(heading: str) -> str:
    """Return the text below a heading."""
    return re.split(r"\n#+ ", DOCUMENT.split(f" {heading}\n", 1)[1], maxsplit=1)[0]


def test_every_command_stands_in_the_document() -> None:
    """Groups with each of their verbs."""
    context = click.Context(spare)
    text = section("Commands")
    for name in spare.list_commands(context):
        command = spare.get_command(context, name)
        verbs = list(command.commands) if isinstance(command, click.Group) else []
        assert name in text
        for verb in verbs:
            assert re.search(rf"`spare {name} .*\b{verb}\b|`spare {name} [^|]*`{verb}`", text), f"spare {name} {verb}"


def test_every_exit_code_stands_in_the_document() -> None:
    """Scripts are written from this table."""
    codes = {int(number) for number in re.findall(r"^\| (\d+) \|", section("Commands"), re.MULTILINE)}
    assert codes == {int(code) for code in ExitCode}


def test_every_metric_stands_in_the_document_and_no_other() -> None:
    """Dashboards are written from this table."""
    scrape = render(new_registry(lambda: {**STATUS, "counters": {}})).decode()
    measured = set(re.findall(r"^(spare_\w+)", scrape, re.MULTILINE))
    documented = set(re.findall(r"`(spare_[a-z_]+)", section("Metrics and health").split("Worth an alarm")[0]))
    assert documented - measured == set()
    assert measured - documented == set()
