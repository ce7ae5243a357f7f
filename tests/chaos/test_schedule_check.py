"""A schedule is checked completely at once, with line numbers, before anything is started."""

from pathlib import Path
from typing import get_args

import pytest

from benchmarks.chaos.fault_kinds import KINDS, FaultName, Means
from benchmarks.chaos.schedule_check import SHIPPED, examine, find_schedule, load_schedule
from replica_manager.config_findings import ConfigError

HEAD = """[cell]
service = "key-value"
driver = "subprocess"
[load]
clients = 2
"""


def messages(text: str) -> list[tuple[int, str, str]]:
    """Return line, path and message of everything that is wrong with a schedule."""
    _, report = examine(text)
    return [(finding.line, finding.path, finding.message) for finding in report.in_file_order()]


def with_fault(fault: str, head: str = HEAD) -> str:
    """Return a schedule with one step of one fault, on line 7."""
    return f"{head}[[step]]\nfault = [{{ {fault} }}]\n"


@pytest.mark.parametrize("name", ["quick", "quick-pairs", "standard", "pairs"])
def test_the_shipped_schedules_have_no_mistakes(name: str) -> None:
    assert load_schedule(find_schedule(name)).step


def test_the_standard_schedule_has_every_kind_of_fault_one_at_a_time() -> None:
    schedule = load_schedule(find_schedule("standard"))
    assert {fault.kind for fault in schedule.faults} == set(get_args(FaultName))
    assert [len(step.fault) for step in schedule.step] == [1] * len(schedule.step)
    assert schedule.cell.f == 1


def test_the_quick_schedule_has_every_kind_that_needs_no_machine() -> None:
    schedule = load_schedule(find_schedule("quick"))
    assert {fault.kind for fault in schedule.faults} == {
        name for name, kind in KINDS.items() if kind.means is not Means.IMAGE
    }


@pytest.mark.parametrize("name", ["quick-pairs", "pairs"])
def test_the_pairs_are_two_faults_at_a_time_in_a_cell_that_tolerates_two(name: str) -> None:
    schedule = load_schedule(find_schedule(name))
    assert [len(step.fault) for step in schedule.step] == [2] * 6
    assert schedule.cell.f == 2


def test_every_mistake_is_found_at_once() -> None:
    text = HEAD.replace("clients = 2", 'clients = "two"') + 'seeed = 3\n[[step]]\nfault = [{ kind = "hank" }]\n'
    found = messages(text)
    assert [line for line, _, _ in found] == [5, 6, 8, 8]
    assert any("did you mean" in finding.suggestion for finding in examine(text)[1].findings)


@pytest.mark.parametrize(
    ("fault", "path", "words"),
    [
        ('kind = "hang", target = "s1"', "step[0].fault[0].target", "strikes a domain"),
        ('kind = "cut", target = "s1.active"', "step[0].fault[0].target", "strikes a server"),
        ('kind = "hang", target = "s2.active"', "step[0].fault[0].target", "there is no server 2"),
        ('kind = "wrong-reply", target = "s1.passive"', "step[0].fault[0].target", "no occasion"),
        ('kind = "fill-disk", target = "s1"', "step[0].fault[0].kind", "disks of their own"),
        ('kind = "rounding-database", target = "s1"', "step[0].fault[0].kind", "auction site"),
        ('kind = "cut", target = "s1", direction = "up"', "step[0].fault[0].direction", "expected one of"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_on_its_line(fault: str, path: str, words: str) -> None:
    ((line, found_path, message),) = messages(with_fault(fault))
    assert (line, found_path) == (7, path)
    assert words in message


def test_more_faults_at_a_time_than_the_cell_tolerates_are_refused() -> None:
    two = '{ kind = "hang", target = "s0.active" }, { kind = "hang", target = "s1.active" }'
    ((line, _, message),) = messages(f"{HEAD}[[step]]\nfault = [{two}]\n")
    assert line == 6
    assert "2 faults at a time" in message


def test_a_rounding_database_is_there_from_the_start() -> None:
    head = (
        '[cell]\nservice = "rubis"\n[load]\nclients = 2\n[[step]]\nfault = [{ kind = "hang", target = "s0.active" }]\n'
    )
    found = messages(with_fault('kind = "rounding-database", target = "s1"', head))
    assert [message for _, _, message in found] == ["`rounding-database` has to be in the first step"]


@pytest.mark.parametrize(("service", "driver"), [("rubis", "subprocess"), ("key-value", "libvirt")])
def test_a_service_runs_where_its_databases_can_be_read(service: str, driver: str) -> None:
    head = f'[cell]\nservice = "{service}"\ndriver = "{driver}"\n[load]\nclients = 2\n'
    assert [(line, path) for line, path, _ in messages(with_fault('kind = "hang", target = "s0.active"', head))] == [
        (3, "cell.driver")
    ]


def test_a_schedule_without_steps_is_none() -> None:
    assert [path for _, path, _ in messages(HEAD)] == ["step"]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_schedule(find_schedule(str(tmp_path / "mine.toml")))


def test_a_file_goes_before_a_shipped_schedule_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_schedule("quick") == SHIPPED / "quick.toml"
    (tmp_path / "quick").touch()
    assert find_schedule("quick") == Path("quick")
