"""Control commands that break things on purpose; refused unless the cell is a one-machine cell that allows it."""

from typing import Any, Literal

import msgspec

from replica_manager.clock import OffsetClock
from replica_manager.config import Config
from replica_manager.control.errors import RequestRefused
from replica_manager.control.event_log import EventLog
from replica_manager.domain_specs import DomainSpecs
from replica_manager.execution.local_domains import LocalDomains
from replica_manager.hypervisor.hypervisor import HypervisorError
from replica_manager.identifiers import DomainId


class StepClock(msgspec.Struct, tag_field="action", tag="step-clock", forbid_unknown_fields=True):
    """The server's clock is wrong from now on."""

    offset_us: int
    """Against the machine's clock; 0: it is right again."""


class StopDomain(msgspec.Struct, tag_field="action", tag="stop-domain", forbid_unknown_fields=True):
    """The hypervisor ends a domain, or takes its CPU away, behind the replica manager's back."""

    domain: str
    how: Literal["destroy", "suspend"]


class BootImage(msgspec.Struct, tag_field="action", tag="boot-image", forbid_unknown_fields=True):
    """The server's next domains boot from another image."""

    image: str
    """Empty: what the configuration says."""


Command = StepClock | StopDomain | BootImage


class FaultCommands:
    """The command `inject` of one server."""

    def __init__(
        self, config: Config, clock: OffsetClock, domains: LocalDomains, specs: DomainSpecs, events: EventLog
    ) -> None:
        """Break the given parts on order."""
        self._config = config
        self._clock = clock
        self._domains = domains
        self._specs = specs
        self._events = events

    async def inject(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Do what `parameters` say, one `Command`.

        Raises:
            RequestRefused: it is no command, or not allowed here.
        """
        self._require_allowed()
        try:
            command = msgspec.convert(parameters, Command)
        except msgspec.ValidationError as error:
            raise RequestRefused("bad_request", f"inject: {error}") from error
        match command:
            case StepClock(offset_us=offset_us):
                self._step_clock(offset_us)
            case StopDomain(domain=domain, how=how):
                await self._stop_domain(domain, how)
            case BootImage(image=image):
                self._specs.image_override = image
                self._events.record("boot_image_changed", image=image)
        return {"done": True}

    def _require_allowed(self) -> None:
        is_embedded = self._config.hypervisor.driver == "subprocess" or not self._config.hypervisor.uri
        if not (self._config.fault_injection and self._config.cell.kind == "one-machine" and is_embedded):
            message = "faults are injected only into one-machine cells with embedded hypervisors that allow it"
            raise RequestRefused("refused", message, "fault_injection = true at the top of the cell's file")

    def _step_clock(self, offset_us: int) -> None:
        step_us = offset_us - self._clock.offset_us
        self._clock.offset_us = offset_us
        # The first event with the new time.
        self._events.record("clock_stepped", offset_us=offset_us, step_us=step_us)

    async def _stop_domain(self, domain: str, how: Literal["destroy", "suspend"]) -> None:
        try:
            await self._domains.strike(DomainId(domain), how)
        except HypervisorError as error:
            raise RequestRefused("not_ready", str(error)) from error
        self._events.record("domain_struck", domain=domain, how=how)
