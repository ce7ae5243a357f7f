"""Faults are injected only where that is allowed, and do what they say."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from replica_manager.clock import OffsetClock, SystemClock
from replica_manager.config import Config
from replica_manager.config_check import load
from replica_manager.control.errors import RequestRefused
from replica_manager.control.event_log import EventLog
from replica_manager.control.fault_commands import FaultCommands
from replica_manager.domain_specs import DomainSpecs
from replica_manager.execution.local_domains import LocalDomains
from replica_manager.hypervisor.subprocess_driver import SubprocessHypervisor

CELL = """{head}
[cell]
name = "t-inject"
network = "loopback"
state_dir = "cell"
runtime_dir = "{directory}/run"
[service]
command = ["true", "{{channel}}"]
[hypervisor]
driver = "subprocess"
isolation = "none"
[[server]]
id = 0
[[server]]
id = 1
"""
HOUR_US = 3_600_000_000


def configuration(directory: Path, head: str) -> Config:
    """Return a cell of child processes."""
    file = directory / "cell.toml"
    file.write_text(CELL.format(head=head, directory=directory))
    return load(file)


class Bench:
    """The command with everything that it breaks; no domain is there."""

    def __init__(self, directory: Path, head: str = "fault_injection = true") -> None:
        config = configuration(directory, head)
        self.clock = OffsetClock(SystemClock())
        self.events = EventLog(0, self.clock.wall_us)
        self.specs = DomainSpecs(config, 0)
        hypervisor = SubprocessHypervisor(isolation="none")
        domains = LocalDomains(hypervisor, _connect, _Handler(), 1.0)
        self.commands = FaultCommands(config, self.clock, domains, self.specs, self.events)

    def inject(self, **parameters: Any) -> dict[str, Any]:
        """Run the command."""
        return asyncio.run(self.commands.inject(parameters))


async def _connect(*_: Any) -> Any:
    raise AssertionError("no domain is started")


class _Handler:
    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name}: no domain is started")


def test_a_clock_steps_and_the_event_has_the_new_time(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.inject(action="step-clock", offset_us=HOUR_US)
    (event,) = bench.events.since(0, 10)
    assert (event.kind, event.data) == ("clock_stepped", {"offset_us": HOUR_US, "step_us": HOUR_US})
    assert abs(event.at_us - SystemClock().wall_us() - HOUR_US) < 60_000_000
    bench.inject(action="step-clock", offset_us=0)
    assert bench.events.since(1, 10)[0].data["step_us"] == -HOUR_US


def test_the_next_domains_boot_another_image(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.inject(action="boot-image", image="key-value+treacherous")
    assert bench.specs.image_override == "key-value+treacherous"


def test_a_domain_that_is_not_there_cannot_be_struck(tmp_path: Path) -> None:
    with pytest.raises(RequestRefused, match=r"s0\.g9 is not a domain of this server"):
        Bench(tmp_path).inject(action="stop-domain", domain="s0.g9", how="destroy")


def test_a_cell_that_does_not_allow_faults_refuses_them(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "")
    with pytest.raises(RequestRefused, match="only into one-machine cells") as refused:
        bench.inject(action="step-clock", offset_us=HOUR_US)
    assert "fault_injection = true" in refused.value.hint
    assert bench.clock.offset_us == 0


@pytest.mark.parametrize("parameters", [{}, {"action": "explode"}, {"action": "step-clock", "offset_us": "much"}])
def test_what_is_no_command_is_refused(tmp_path: Path, parameters: dict[str, Any]) -> None:
    with pytest.raises(RequestRefused, match="inject"):
        Bench(tmp_path).inject(**parameters)
