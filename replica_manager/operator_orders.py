"""What an operator may order of a running server, on its control socket: each waits until it shows what came of it."""

import asyncio
from collections.abc import Callable
from typing import Any

from replica_manager.cell.recoveries import LIGHTWEIGHT, RESILIENT
from replica_manager.cell.roles import DomainRecord, Role
from replica_manager.control.control_socket import Handler
from replica_manager.control.errors import RequestRefused
from replica_manager.identifiers import DomainId
from replica_manager.replica_server import ReplicaServer
from replica_manager.standing import Standing

LOOK_S = 0.05
EFFECT_S = 10.0
"""An order that has shown no effect in this time had none: a round or a change of members came first."""


class OperatorOrders:
    """Orders to one running server."""

    def __init__(self, server: ReplicaServer, leave: Callable[[], None]) -> None:
        """Give orders to `server`; `leave` has it leave the cell, and its process end then."""
        self._server = server
        self._leave = leave

    def by_name(self) -> dict[str, Handler]:
        """Return the handlers for the control socket."""
        return {
            "resolve": self.resolve,
            "activate": self.activate,
            "retire": self.retire,
            "recover": self.recover,
            "leave": self.leave,
        }

    async def resolve(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Decide about an open request: `sequence`, and `skip` or `retry` as `action`.

        Raises:
            RequestRefused: it had no effect, and why.
        """
        sequence, action = parameters.get("sequence"), parameters.get("action")
        if not isinstance(sequence, int) or sequence < 1 or action not in ("skip", "retry"):
            raise RequestRefused("bad_request", "resolve needs a sequence number from 1, and skip or retry")
        self._require_serving()
        objection = await self._server.resolve(sequence, str(action))
        if objection:
            raise RequestRefused("no_effect", f"sequence {sequence} stays as it is: {objection}", "see spare explain")
        return {"sequence": sequence, "action": action}

    async def activate(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Make a passive domain active."""
        record = self._domain(parameters, Role.PASSIVE)
        self._server.order_activation(record.domain)
        return await self._await_role(record.domain, Role.ACTIVE)

    async def retire(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Give up a domain; repair replaces it."""
        record = self._domain(parameters, Role.PASSIVE, Role.ACTIVE, Role.STARTING)
        self._server.order_retirement(record.domain, str(parameters.get("reason") or "the operator retired it"))
        return await self._await_role(record.domain, Role.RETIRED)

    async def recover(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Begin a proactive recovery, of the wanted `kind`; return its number.

        Raises:
            RequestRefused: one is under way.
        """
        kind = parameters.get("kind", LIGHTWEIGHT)
        if kind not in (LIGHTWEIGHT, RESILIENT):
            raise RequestRefused("bad_request", f"kind is {LIGHTWEIGHT} or {RESILIENT}")
        self._require_serving()
        asked, token = self._server.core.recovery.asked, self._server.order_recovery(str(kind))
        for _ in range(round(EFFECT_S / LOOK_S)):
            if asked[token] is not None:
                break
            await asyncio.sleep(LOOK_S)
        number = asked.pop(token)
        if number:
            return {"number": number, "kind": kind}
        why = "it was not ordered in time" if number is None else "one is under way, or the cell restarts"
        raise RequestRefused("no_effect", f"no recovery was begun: {why}", "see spare status")

    def leave(self, _parameters: dict[str, Any]) -> dict[str, Any]:
        """Have this server leave the cell and its process end; answers before that."""
        self._require_serving()
        core = self._server.core
        if core.cell.live_servers == (core.settings.server,):
            raise RequestRefused("last_server", "the last server cannot leave", "end the cell: spare cell down")
        self._leave()
        return {"leaving": core.settings.server}

    def _require_serving(self) -> None:
        standing = self._server.core.standing
        if standing is not Standing.SERVING:
            raise RequestRefused("not_ready", f"this server is {standing.value}", "wait until it serves")

    def _domain(self, parameters: dict[str, Any], *roles: Role) -> DomainRecord:
        self._require_serving()
        name = parameters.get("domain")
        record = self._server.core.cell.domains.get(DomainId(str(name)))
        if record is None:
            raise RequestRefused("unknown_domain", f"the cell has no domain {name}", "see spare replicas")
        if record.role not in roles:
            wanted = " or ".join(role.value for role in roles)
            raise RequestRefused("wrong_role", f"domain {name} is {record.role.value}, not {wanted}")
        return record

    async def _await_role(self, domain: DomainId, role: Role) -> dict[str, Any]:
        domains = self._server.core.cell.domains
        for _ in range(round(EFFECT_S / LOOK_S)):
            record = domains.get(domain)
            if record is None or record.role is role:
                return {"domain": domain, "role": role.value}
            await asyncio.sleep(LOOK_S)
        hint = "a round or a change of members came first; see spare events"
        raise RequestRefused("no_effect", f"domain {domain} stays {domains[domain].role.value}", hint)
