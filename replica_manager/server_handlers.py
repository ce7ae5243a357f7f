"""What the control socket of a server answers: reads of its state, and the few things an operator may ask for."""

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from replica_manager.config import Config
from replica_manager.control.control_socket import Handler
from replica_manager.control.errors import RequestRefused
from replica_manager.control.event_stream import events_handler
from replica_manager.errors import CheckpointUnderWay
from replica_manager.ordering.peer_port import PeerTransport
from replica_manager.ordering.stable_log import SqliteStableStorage
from replica_manager.replica_server import ReplicaServer
from replica_manager.server_report import cell_report, domain_reports, explanation
from replica_manager.standing import Standing


class ServerHandlers:
    """Handlers over one running server."""

    def __init__(
        self,
        config: Config,
        server: ReplicaServer,
        storage: SqliteStableStorage,
        transport: PeerTransport,
        stop: Callable[[str], None],
    ) -> None:
        """Answer for `server`; `stop` ends its process."""
        self._config = config
        self._server = server
        self._storage = storage
        self._transport = transport
        self._stop = stop

    def by_name(self) -> dict[str, Handler]:
        """Return the handlers for the control socket."""
        return {
            "status": lambda _: self.status(),
            "explain": self.explain,
            "checkpoint": self.checkpoint,
            "export": self._server.exports.export,
            "stop": self.stop,
            "events": events_handler(self._server.events),
        }

    def status(self) -> dict[str, Any]:
        """Return everything an operator sees at a glance."""
        server, core = self._server, self._server.core
        node = server.driver.core
        suspended_s = {domain: server.domains.suspended_s(domain) for domain in core.feeds}
        return {
            "server": core.settings.server,
            "cell": self._config.cell.name,
            "state": server.state,
            "leader": None if node.leader is None else str(node.leader),
            "is_leader": node.is_leader,
            "configuration": node.configuration.number,
            **cell_report(core),
            "export": server.exports.report(),
            "import": server.importing(),
            "silent_servers": self._silent_servers(),
            "domains": domain_reports(core, server.domains.observed, suspended_s),
            "last_refresh": server.last_refresh,
            "refreshes": server.refresh_count,
            "counters": self._counters(),
            "cpu_seconds": _own_cpu_seconds(),
            "rss_bytes": _own_memory_bytes(),
            "uptime_s": round(time.monotonic() - server.started_s, 1),
        }

    def _silent_servers(self) -> list[dict[str, Any]]:
        """Without witnesses: whom the cell waits for, and what fencing says."""
        fencing = self._server.fencing
        return [
            {"server": one.server, "fenced": one.is_fenced, "failures": one.failures, "last_failure": one.last_failure}
            for one in (fencing.suspicions if fencing is not None else ())
        ]

    def _counters(self) -> dict[str, float]:
        server = self._server
        agreement, peers, storage = server.driver.counters, self._transport.counters, self._storage.counters
        return {
            "entries": agreement.entry_count,
            "slots": agreement.slot_count,
            "agreement_messages": agreement.message_count,
            "witness_messages": agreement.witness_message_count,
            "log_writes": agreement.write_count,
            "log_write_ms_p50": agreement.write_ms.quantile_ms(0.5),
            "syncs": storage.sync_count,
            "log_bytes": storage.byte_count,
            "votes": server.vote_count,
            "answered": server.core.admission.answered,
            "peer_frames_sent": peers.sent_frame_count,
            "peer_bytes_sent": peers.sent_byte_count,
            "peer_frames_dropped": peers.dropped_frame_count,
            "early_votes_dropped": server.core.voter.early_votes_dropped,
        }

    def explain(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return who said what about `sequence`."""
        sequence = parameters.get("sequence")
        if not isinstance(sequence, int) or sequence < 1:
            raise RequestRefused("bad_request", "explain needs a sequence number from 1")
        found = explanation(self._server.core, sequence)
        if found is None:
            oldest, newest = self._server.core.requests.first_explained, self._server.core.requests.last
            known = "is not ordered yet" if sequence > newest else "is no longer kept here"
            kept = f"kept are {oldest} to {newest}" if newest >= oldest else "nothing is ordered yet"
            raise RequestRefused("unknown_sequence", f"sequence {sequence} {known}; {kept}")
        return found

    async def checkpoint(self, _parameters: dict[str, Any]) -> dict[str, Any]:
        """Order a checkpoint and wait until every domain has given its state."""
        standing = self._server.core.standing
        if standing is not Standing.SERVING:
            # What it orders nobody takes, and nobody would end the waiting.
            raise RequestRefused("not_ready", f"this server is {standing.value}", "wait until it serves")
        try:
            return await self._server.checkpoint()
        except CheckpointUnderWay as error:
            raise RequestRefused("not_ready", str(error), error.hint) from error

    def stop(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """End the process in good order."""
        self._stop(str(parameters.get("reason", "the operator asked for it")))
        return {"stopping": True}


def _own_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return round(usage.ru_utime + usage.ru_stime, 3)


def _own_memory_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
