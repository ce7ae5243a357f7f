"""What a seed draws."""

import random
from dataclasses import dataclass, replace
from typing import Any

from agreement.settings import AgreementSettings
from replica_manager.core_settings import CoreSettings
from replica_manager.execution.feed import FeedSettings
from replica_manager.faults.fault_handling import FaultSettings
from replica_manager.faults.watch import WatchSettings
from replica_manager.recovery.proactive_recovery import RecoverySettings
from replica_manager.recovery.repair import RepairSettings
from tests.simulation.cell.misbehaviour import KINDS

CLIENT_TABLE_ENTRIES_MAX = 50


@dataclass(frozen=True)
class Options:
    """What may go wrong in a run, and how tight its bounds are."""

    f: int
    clients: int
    requests_per_client: int
    think_us: int
    """A client waits up to this long between a reply and its next request."""
    is_faulty: bool
    loss: float
    duplication: float
    spike: float
    crashes: int
    """Members that crash: servers first; within the bound."""
    returns: bool
    """Servers that crash come back after a while."""
    lost_disks: bool
    """Some of them without what they had written."""
    relapses: int
    """Times that a server which is joining ends, and comes back or not."""
    power_losses: int
    """Times that the whole cell loses power, with everything that was not synced."""
    stays_away: bool
    """After the first loss of power one server does not come back."""
    checkpoint_entries: int
    """Entries between two checkpoints of the cell state."""
    is_witness_down: bool
    """One of the crashes is a witness's."""
    is_witness_restarted: bool
    """A witness crashes, if the bound leaves room for it, and comes back with its memory."""
    isolation: bool
    """One of the crashes is instead a server that the others cannot reach for longer than the crash timeout."""
    short_cuts: int
    """One-way cuts, shorter than the crash timeout."""
    kinds: tuple[str, ...]
    """Classes of misbehaviour that domains may show."""
    domain_faults: int
    """How many domains begin to misbehave, one after the other as the bound allows."""
    domain_kills: int
    latent_faults: int
    """Domains in which a row silently becomes another one."""
    boot_faults: int
    """Fresh domains that fail before they serve."""
    is_hello_wrong: bool
    """One of the first domains claims a wrong position."""
    is_poisoned: bool
    """A request kills every domain that executes it, and an operator decides about it."""
    full_disks: int
    """Times that a server's disk takes no state parts for a while."""
    slow_domain: int
    """How many times slower one domain of the cell is; 0: none."""
    clock_steps: int
    """Jumps of an intake server's clock, by seconds or by a year."""
    checkpoints: int
    recoveries: int
    """Proactive recoveries that an operator asks for."""
    recovery_updates: int
    """`U_recovery`; 0: none begins by itself."""
    refresh_updates_max: int
    own_entries_max: int
    """Agreement refuses entries beyond these."""
    history_bytes_max: int
    """Decided batches that agreement keeps for those who are behind; who is farther gets a snapshot."""
    open_requests_max: int
    """Intake refuses requests beyond these."""
    power_us_max: int
    """The hypervisor takes up to this long to suspend or resume."""
    exports: int = 0
    """States that an operator wants in a file."""

    def agreement_settings(self) -> AgreementSettings:
        """Times and limits of the agreement stage."""
        return AgreementSettings(own_entries_max=self.own_entries_max, history_bytes_max=self.history_bytes_max)

    def core_settings(self, server: int) -> CoreSettings:
        """Bounds and times of a manager."""
        return CoreSettings(
            server=server,
            f=self.f,
            client_table_entries_max=CLIENT_TABLE_ENTRIES_MAX,
            open_requests_max=self.open_requests_max,
            request_bytes_max=1000,
            buffer_entries_max=10_000,
            buffer_bytes_max=10_000_000,
            progress_ms=300,
            sync_ms=700,
            stall_start_ms=250,
            feed=self.feed_settings(),
            faults=FaultSettings(stall_start_ms=250, stall_max_ms=4_000),
            watch=WatchSettings(applied_timeout_ms=3_000, state_timeout_ms=2_000, execution_limit_ms=8_000),
            repair=RepairSettings(is_immediate=True, patience_ms=2_000, feed=self.feed_settings()),
            recovery=RecoverySettings(updates=self.recovery_updates, resilient_every=3, patience_ms=10_000),
        )

    def feed_settings(self) -> FeedSettings:
        """When passive domains are refreshed."""
        return FeedSettings(
            refresh_updates_max=self.refresh_updates_max,
            refresh_bytes_max=10_000,
            refresh_lag_max=200,
            batch_bytes_max=4_000,
            state_format=1,
            is_passive_kept_running=False,
        )


def _draw_domain_faults(draw: random.Random, f: int, *, is_faulty: bool) -> dict[str, Any]:
    """Draw how domains fail; whole classes of faults are on or off."""
    kinds = tuple(kind for kind in KINDS if draw.random() < 0.5)
    has_faults = is_faulty and bool(kinds) and draw.random() < 0.7
    has_kills = is_faulty and draw.random() < 0.35
    has_latent = is_faulty and draw.random() < 0.2
    return {
        "kinds": kinds,
        "domain_faults": draw.randint(1, f + 2) if has_faults else 0,
        "domain_kills": draw.randint(1, f) if has_kills else 0,
        "latent_faults": draw.randint(1, f) if has_latent else 0,
        "boot_faults": draw.randint(1, 2) if is_faulty and draw.random() < 0.3 else 0,
        "is_hello_wrong": is_faulty and draw.random() < 0.04,
        "is_poisoned": is_faulty and draw.random() < 0.18,
        "full_disks": draw.randint(0, 2) if is_faulty and draw.random() < 0.2 else 0,
    }


def _draw_returns(draw: random.Random, crashes: int, *, is_faulty: bool) -> dict[str, Any]:
    """Draw who comes back, and how."""
    returns = crashes > 0 and draw.random() < 0.7
    power_losses = draw.choice((1, 1, 2)) if is_faulty and draw.random() < 0.25 else 0
    return {
        "returns": returns,
        "lost_disks": returns and draw.random() < 0.4,
        "relapses": draw.randint(1, 2) if returns and draw.random() < 0.3 else 0,
        "power_losses": power_losses,
        "stays_away": power_losses > 0 and draw.random() < 0.2,
        "checkpoint_entries": draw.choice((20, 60, 150)),
    }


def draw_options(seed: int) -> Options:
    """Draw what happens in a run."""
    draw = random.Random(f"options {seed}")
    f = draw.choice((1, 2))
    is_faulty = draw.random() < 0.9
    crashes = draw.randint(1, f) if is_faulty and draw.random() < 0.45 else 0
    is_lossy = is_faulty and draw.random() < 0.5
    clients = draw.randint(3, 6)
    drawn = Options(
        f=f,
        clients=clients,
        requests_per_client=-(-draw.randint(100, 160) // clients),
        think_us=draw.choice((50_000, 200_000, 300_000)),
        is_faulty=is_faulty,
        loss=draw.choice((0.0, 0.01, 0.05)) if is_lossy else 0.0,
        duplication=draw.choice((0.0, 0.02)) if is_lossy else 0.0,
        spike=draw.choice((0.0, 0.005, 0.02)) if is_faulty else 0.0,
        crashes=crashes,
        is_witness_down=crashes > 0 and draw.random() < 0.25,
        is_witness_restarted=is_faulty and draw.random() < 0.35,
        isolation=crashes > 0 and draw.random() < 0.3,
        short_cuts=draw.randint(0, 3) if is_faulty else 0,
        slow_domain=draw.choice((0, 0, 10, 40)) if is_faulty else 0,
        clock_steps=draw.randint(0, 2) if is_faulty else 0,
        checkpoints=draw.randint(0, 2),
        recoveries=draw.choice((0, 0, 1, 2)),
        recovery_updates=draw.choice((0, 0, 25, 60)),
        refresh_updates_max=draw.choice((3, 10, 40)),
        own_entries_max=draw.choice((8192, 8192, 1)),
        history_bytes_max=draw.choice((64 * 1024 * 1024, 20_000, 12_000)),
        open_requests_max=draw.choice((200, 200, 2)),
        power_us_max=draw.choice((5_000, 5_000, 200_000)),
        **_draw_returns(draw, crashes, is_faulty=is_faulty),
        **_draw_domain_faults(draw, f, is_faulty=is_faulty),
    )
    # What is drawn last changes no other draw of a seed.
    return replace(drawn, exports=draw.choice((0, 0, 1, 2)))


def quiet(f: int) -> Options:
    """Nothing goes wrong but what a test does."""
    drawn = draw_options(0)
    off = {
        name: type(getattr(drawn, name))()
        for name in (
            "is_faulty", "loss", "duplication", "spike", "crashes", "returns", "lost_disks", "relapses", "power_losses",
            "stays_away", "is_witness_down", "is_witness_restarted", "isolation", "short_cuts", "kinds",
            "domain_faults", "domain_kills", "latent_faults", "boot_faults", "is_hello_wrong", "is_poisoned",
            "full_disks", "slow_domain", "clock_steps", "checkpoints", "recoveries", "recovery_updates", "exports",
        )
    }  # fmt: skip
    ample = {"own_entries_max": 8192, "open_requests_max": 200, "refresh_updates_max": 10, "power_us_max": 5_000}
    return replace(drawn, f=f, clients=3, requests_per_client=40, think_us=300_000, **off, **ample)
