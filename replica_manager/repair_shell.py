"""The shell of repairs: boots fresh domains, keeps and reads state parts.  Decides nothing."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from replica_manager.core_output import CoreOutput, PartWanted
from replica_manager.identifiers import DomainId
from replica_manager.manager_core import ManagerCore
from replica_manager.part_spool import PartSpool
from replica_manager.peer_messages import Part

BootDomain = Callable[[DomainId, bool], Coroutine[Any, Any, str | None]]
"""`(domain, is_fresh)`: boots a domain from a clean image, or from its own disk; returns why that was impossible."""


class RepairShell:
    """Carries out what a core wants of disks and hypervisors for its repairs."""

    def __init__(
        self,
        core: ManagerCore,
        spool: PartSpool,
        boot: BootDomain,
        post_part: Callable[[int, Part], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        touch: Callable[[], None],
        record: Callable[[str, dict[str, Any]], None],
    ) -> None:
        """Serve `core`.

        Args:
            core: what decides.
            spool: keeps the parts.
            boot: boots a fresh domain.
            post_part: sends a part to a server.
            spawn: runs a coroutine beside everything else.
            touch: has the core's output taken soon.
            record: records an event.
        """
        self._core = core
        self._spool = spool
        self._boot = boot
        self._post_part = post_part
        self._spawn = spawn
        self._touch = touch
        self._record = record

    def carry_out(self, output: CoreOutput) -> None:
        """Do what this output wants."""
        for domain, part in output.parts:
            self._keep(part.point, domain, part.data)
        for wanted in output.parts_wanted:
            self._give(wanted)
        for point in output.points_ended:
            self._spool.drop(point)
        for domain in output.boots:
            self._spawn(self._boot_all([domain], is_fresh=True))
        if output.boots_from_disk:
            self._spawn(self._boot_all(output.boots_from_disk, is_fresh=False))

    def _keep(self, point: int, domain: DomainId, data: bytes) -> None:
        try:
            self._spool.keep(point, domain, data)
        except OSError as error:
            self._record("state_part_lost", {"domain": domain, "point": point, "reason": str(error)})

    def _give(self, wanted: PartWanted) -> None:
        # An empty part stands for one that cannot be read: it is not the voted one, so another copy is asked.
        data = self._spool.read(wanted.point, wanted.domain, wanted.part_index) or b""
        part = Part(wanted.point, wanted.domain, wanted.part_index, data)
        if wanted.receiver is not None:
            self._post_part(wanted.receiver, part)
        else:
            self._core.on_part(part)
            self._touch()

    async def _boot_all(self, domains: Sequence[DomainId], *, is_fresh: bool) -> None:
        """Boot one after the other: more at a time only slow each other down."""
        for domain in domains:
            objection = await self._boot(domain, is_fresh)
            if objection is not None:
                self._core.on_boot_failed(domain, objection)
                self._touch()
