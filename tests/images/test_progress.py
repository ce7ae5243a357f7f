"""Signs of life."""

from images.progress import BuildProgress, ProgressLog


class _Clock:
    """A clock that the test moves."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def _log(step_count: int = 2) -> tuple[ProgressLog, list[BuildProgress], _Clock]:
    reports: list[BuildProgress] = []
    clock = _Clock()
    return ProgressLog("shop", step_count, reports.append, clock), reports, clock


def test_a_step_reports_its_begin_and_its_end_with_the_time_it_took() -> None:
    """Times are counted from the step's and from the build's begin."""
    log, reports, clock = _log()
    with log.step("kernel"):
        clock.now_s += 1.5
    with log.step("disk"):
        clock.now_s += 0.25

    assert [(r.phase, r.step_index, r.title, r.step_elapsed_ms, r.elapsed_ms) for r in reports] == [
        ("started", 1, "kernel", 0, 0),
        ("finished", 1, "kernel", 1500, 1500),
        ("started", 2, "disk", 0, 1500),
        ("finished", 2, "disk", 250, 1750),
    ]


def test_a_long_step_reports_about_once_a_second() -> None:
    """Many lines of output do not become many reports."""
    log, reports, clock = _log()
    with log.step("packages"):
        for number in range(40):
            clock.now_s += 0.1
            log.tick(f"unpacking {number}")

    running = [r for r in reports if r.phase == "running"]
    assert 3 <= len(running) <= 4
    assert running[-1].detail.startswith("unpacking")


def test_a_silent_step_still_reports() -> None:
    """With the last thing that it said."""
    log, reports, clock = _log()
    with log.step("packages"):
        log.tick("unpacking")
        clock.now_s += 2.0
        log.tick()

    assert [r.detail for r in reports if r.phase == "running"] == ["unpacking"]


def test_a_failed_step_has_no_end() -> None:
    """The error tells what happened."""
    log, reports, _ = _log()
    try:
        with log.step("kernel"):
            raise OSError
    except OSError:
        pass

    assert [r.phase for r in reports] == ["started"]


def test_every_report_knows_the_whole() -> None:
    """Enough to draw `[2/7]`."""
    log, reports, _ = _log(step_count=7)
    with log.step("kernel"):
        pass

    assert {(r.image_name, r.step_count) for r in reports} == {("shop", 7)}
