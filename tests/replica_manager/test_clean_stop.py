"""The mark of a clean end: there once, and never after the next start."""

from pathlib import Path

from replica_manager.clean_stop import MARK, has_mark, leave_mark, take_mark


def test_a_mark_is_taken_once(tmp_path: Path) -> None:
    """A second start without a clean end between finds none."""
    assert not take_mark(tmp_path)
    leave_mark(tmp_path)
    assert has_mark(tmp_path)
    assert take_mark(tmp_path)
    assert not take_mark(tmp_path)


def test_a_mark_is_private_and_may_be_left_twice(tmp_path: Path) -> None:
    """Nothing of a cell's state is for others."""
    leave_mark(tmp_path)
    leave_mark(tmp_path)
    assert (tmp_path / MARK).stat().st_mode & 0o777 == 0o600
