"""One power cut after another: what is going on when the power goes, and what must be true when it is back."""

import os
import random
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

from replica_manager.control.checkpoint import Checkpoint
from tests.power_loss.cell import BOOT_S, PowerCell
from tests.power_loss.tokens import Judgement, Ledger, judge
from tests.power_loss.users import Users, read_everything, repeat_open

Moment = Literal["load", "twice", "repair", "rejoin", "absent", "reading"]
MOMENTS: tuple[Moment, ...] = ("load", "twice", "load", "repair", "reading", "rejoin", "load", "absent")
"""What is going on, round after round: `twice` is a second cut while the cell comes back from the first; `absent` has
one server stay away at first; in `reading` few requests write, so that disks say nothing of most numbers."""
READING_SHARE = {"reading": 0.98}
READING_SHARE_ELSE = 0.2
DISKS = 3
"""Of two servers and a witness."""
LOSING_BOOT_S = 60.0
"""Longest start of a cell of child processes that may have lost so much that it cannot go on."""
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take here."""

    load_s: tuple[float, float]
    """The power goes so long after the first reply, at least and at most."""
    tokens_min: int
    """No earlier than so many acknowledged tokens."""
    client_count: int
    fault_s: float
    """And at most so long after what is to be interrupted has begun."""


SUBPROCESS_PACE = Pace((0.2, 4.0), 50, 8, 4.0)
MACHINE_PACE = Pace((1.0, 20.0), 20, 8, 40.0)


@dataclass
class Round:
    """What a report says of one cut."""

    number: int
    moment: Moment
    load_s: float
    """From the first clients to the cut."""
    acknowledged: int = 0
    """Tokens in this round."""
    unanswered: int = 0
    """Tokens without a reply when the power went."""
    repeated: dict[str, int] = field(default_factory=dict)
    """What the cell said when they were sent again."""
    lost: int = 0
    doubled: int = 0
    foreign: int = 0
    settled_through: int = 0
    """The last number on which nobody voted after the restart."""
    cursors: dict[str, int] = field(default_factory=dict)
    """Of the domains that came back: the first number that was not on the disk."""
    serves_again_s: float = 0.0
    """From the return of the power until every server serves, redundancy included."""
    states_equal: bool = False
    domains: int = 0
    """That gave their state at the checkpoint."""
    failure: str = ""
    load_average: float = 0.0

    @property
    def is_right(self) -> bool:
        """Whether the cell kept its promises."""
        return not (self.failure or self.lost or self.doubled or self.foreign) and self.states_equal

    def row(self) -> dict[str, Any]:
        """Return what is written down."""
        return asdict(self)


class PowerLoss:
    """Cuts the power of one cell again and again; nothing acknowledged in any round may ever be lost."""

    def __init__(self, cell: PowerCell, pace: Pace, seed: int, report: Report) -> None:
        """Prepare; the cell is new and down."""
        self._cell = cell
        self._pace = pace
        self._seed = seed
        self._report = report
        self.ledger = Ledger()
        self._is_sync = cell.config.cell.durability == "sync"
        self._up_log = cell.file.with_name("up.log")
        self._restart_s = 2.0

    def go_up(self) -> float:
        """Start the cell, and wait until all of it serves; return the seconds.

        Raises:
            RuntimeError: it does not.
        """
        started_s = time.monotonic()
        process = self._cell.start_up(self._up_log)
        try:
            code = process.wait(BOOT_S if self._is_sync else LOSING_BOOT_S)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if code != 0:
            tail = self._up_log.read_text(errors="replace").splitlines()[-12:]
            raise RuntimeError(f"`spare cell up` ended with {code}: " + " | ".join(tail))
        return time.monotonic() - started_s

    def play(self, number: int, moment: Moment) -> Round:
        """Play one round; what goes wrong is in its row.  The cell serves before and, if all is right, afterwards."""
        chance = random.Random(f"{self._seed}/{number}")
        row = Round(number, moment, round(chance.uniform(*self._pace.load_s), 3))
        users = Users(
            self._cell.addresses, self.ledger, number, self._pace.client_count, self._seed,
            READING_SHARE.get(moment, READING_SHARE_ELSE),
        )  # fmt: skip
        try:
            self._cut_under_load(row, users, chance)
            self._come_back(row, users, chance)
            self._examine(row, users)
        except (TimeoutError, subprocess.TimeoutExpired, RuntimeError, OSError, AssertionError) as error:
            row.failure = f"{type(error).__name__}: {error}"
        row.failure = row.failure or "; ".join(users.failures[:3])
        row.load_average = os.getloadavg()[0]
        return row

    # -- until the power is gone -----------------------------------------------------------------------------------

    def _cut_under_load(self, row: Round, users: Users, chance: random.Random) -> None:
        with users.at_work(self._cell.in_place):
            tokens = self._pace.tokens_min // (10 if row.moment == "reading" else 1)
            users.wait_for(tokens, BOOT_S)
            if not self._is_sync:
                self._cell.write_back()  # else nothing at all might be there, and no cell to ask what it lost
            time.sleep(row.load_s)  # the moment is what the round is about
            if row.moment in ("repair", "rejoin"):
                self._break_something(row.moment, chance)
                time.sleep(chance.uniform(0.0, self._pace.fault_s))
            assert self._cell.disk_count == DISKS, "a member has no disk of its own: nothing would be lost"
            self._cell.cut_power(chance)
        row.acknowledged, row.unanswered = users.acknowledged, len(users.open_requests)

    def _break_something(self, moment: Moment, chance: random.Random) -> None:
        server = chance.randrange(len(self._cell.config.server))
        if moment == "rejoin":
            self._cell.kill_member("server", server)
            time.sleep(chance.uniform(0.0, 1.5) * self._cell.config.timeouts.crash_ms / 1000)
            self._cell.start_members([("server", server)])
            return
        self._cell.kill_domain(chance.choice(self._cell.domains(chance.choice(("active", "passive")))))

    # -- when it is back -------------------------------------------------------------------------------------------

    def _come_back(self, row: Round, users: Users, chance: random.Random) -> None:
        if row.moment == "twice":
            for _ in range(2):
                self._interrupted_restart(chance.uniform(0.2, 1.1) * self._restart_s, chance)
        if row.moment == "absent":
            row.serves_again_s = self._without_one(users, chance)
        else:
            row.serves_again_s = round(self.go_up(), 2)
            if row.moment == "load":
                self._restart_s = row.serves_again_s
        restarted = self._cell.last_event("cell_restarted").get("data", {})
        row.settled_through = restarted.get("settled_through", 0)
        row.cursors = restarted.get("cursors", {})

    def _interrupted_restart(self, after_s: float, chance: random.Random) -> None:
        """Cut the power again, so long after it came back."""
        process = self._cell.start_up(self._up_log)
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._cell.cut_power(chance)

    def _without_one(self, users: Users, chance: random.Random) -> float:
        """Start all members but one server; it comes when the others serve, and have been asked."""
        absent = chance.randrange(len(self._cell.config.server))
        present = 1 - absent
        started_s = time.monotonic()
        self._cell.start_members([("witness", 0), ("server", present)])
        self._cell.wait_for_states(lambda states: states[present] in ("serving", "degraded"), BOOT_S)
        again_s = time.monotonic() - started_s
        self._cell.in_place(partial(repeat_open, self._cell.addresses[present : present + 1], users, BOOT_S))
        self._require_right(self._judge(present))
        self._cell.start_members([("server", absent)])
        self._cell.wait_for_states(lambda states: set(states) == {"serving"}, BOOT_S)
        return round(again_s, 2)

    # -- what must be true -----------------------------------------------------------------------------------------

    def _examine(self, row: Round, users: Users) -> None:
        repeat = partial(repeat_open, self._cell.addresses, users, BOOT_S)
        row.repeated = self._cell.in_place(repeat)
        judgement = self._judge(0)
        row.lost, row.doubled, row.foreign = map(len, (judgement.lost, judgement.doubled, judgement.foreign))
        checkpoint: Checkpoint = self._cell.checkpoint()
        row.states_equal, row.domains = checkpoint.is_equal, len(checkpoint.digests)
        if row.domains < 2 * len(self._cell.config.server):
            row.failure = f"{row.domains} domains gave their state: redundancy is not restored"

    def _judge(self, server: int) -> Judgement:
        return judge(self.ledger, self._cell.in_place(partial(read_everything, self._cell.addresses[server], BOOT_S)))

    def _require_right(self, judgement: Judgement) -> None:
        if not judgement.is_right:
            raise RuntimeError(f"while a server was away: {judgement}")


def moment_of(number: int) -> Moment:
    """Return what round `number`, from 1, is about."""
    return MOMENTS[(number - 1) % len(MOMENTS)]
