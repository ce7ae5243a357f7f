"""Campaigns of many seeds: resumable, and strict about what they must reach."""

from pathlib import Path

from tests.simulation import campaign
from tests.simulation.cell.named_events import NAMED_EVENTS


def ignore(_progress: campaign.Progress, _left_s: float) -> None:
    """Show nothing."""


def test_the_same_command_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "var" / "simulation.json"
    campaign.run(path, 0, 2, ignore)
    done: list[int] = []
    progress = campaign.run(path, 0, 4, lambda progress, _left_s: done.append(progress.done))
    assert done == [3, 4]
    assert progress == campaign.load(path, campaign.tree_digest(), 0)


def test_a_changed_tree_or_another_first_seed_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "simulation.json"
    campaign.save(path, campaign.Progress("this tree", 0, done=7))
    assert campaign.load(path, "this tree", 0).done == 7
    assert campaign.load(path, "another tree", 0).done == 0
    assert campaign.load(path, "this tree", 100).done == 0


def test_a_torn_progress_file_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "simulation.json"
    path.write_text('{"tree": "this')
    assert campaign.load(path, "this tree", 0).done == 0


def test_the_tree_is_the_content_of_what_a_run_depends_on(tmp_path: Path) -> None:
    source = tmp_path / "agreement" / "node.py"
    source.parent.mkdir()
    source.write_text("one")
    before = campaign.tree_digest(tmp_path)
    (tmp_path / "README.md").write_text("no source")
    assert campaign.tree_digest(tmp_path) == before
    source.write_text("two")
    assert campaign.tree_digest(tmp_path) != before


def test_an_event_in_fewer_than_one_of_a_hundred_seeds_is_named() -> None:
    progress = campaign.Progress("tree", 0)
    for seed in range(200):
        rare = [NAMED_EVENTS[0]] if seed else []
        progress.add(campaign.SeedResult(seed, [*NAMED_EVENTS[1:], *rare], 80.0, ""))
    assert progress.rare_events() == []
    progress.events[NAMED_EVENTS[0]] = 1
    assert progress.rare_events() == [NAMED_EVENTS[0]]
    assert progress.median_cpu_ms == 80


def test_a_failed_seed_is_counted_and_kept_with_its_reason() -> None:
    progress = campaign.Progress("tree", 5)
    progress.add(campaign.SeedResult(5, [], 80.0, "order: broken"))
    assert (progress.failure_count, progress.failures) == (1, ["order: broken"])
