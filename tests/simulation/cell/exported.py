"""The file to which a simulated server exports a state: a disk that takes its time."""

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from exec_wrapper.wire import Pong, SetState, StateSet, ToWrapper
from replica_manager.core_output import ExportFailed
from tests.simulation.fake_domain import FakeDomain

if TYPE_CHECKING:
    from tests.simulation.cell.server import SimulatedServer

WRITE_US = (100, 20_000)


class ExportedFile:
    """Of one process; it ends with it."""

    def __init__(self, server: "SimulatedServer") -> None:
        """Nothing is written."""
        self._server = server
        self._file = FakeDomain("file")
        self._steps: deque[ToWrapper] = deque()

    def take(self, steps: Sequence[ToWrapper | ExportFailed]) -> None:
        """What the core tells the file."""
        for step in steps:
            if isinstance(step, ExportFailed | SetState):
                self.drop()  # of an earlier attempt
            if isinstance(step, ExportFailed):
                self._server.history.event(self._server.number, "export failed")
                continue
            self._steps.append(step)
            if len(self._steps) == 1:
                self._go_on()

    def drop(self) -> None:
        """Nobody wants it any more."""
        self._steps.clear()

    def _go_on(self) -> None:
        if self._steps:
            step = self._steps[0]
            self._server.later(self._server.world.random.randrange(*WRITE_US), lambda: self._write(step))

    def _write(self, step: ToWrapper) -> None:
        if not self._steps or self._steps[0] is not step:
            return  # dropped meanwhile
        history, core = self._server.history, self._server.core
        for answer in self._file.receive(step):
            assert isinstance(answer, Pong | StateSet)
            if isinstance(answer, StateSet):
                history.exported.append((answer.point, dict(self._file.rows)))
                history.event(self._server.number, "exported")
            core.on_export_frame(answer)
            self._server.touch()
        self._steps.popleft()
        self._go_on()
