"""What one server is to its cell, and how it comes in, comes back and goes.  Pure.

Source: design "Cell restart", "Server crash, leave, join"; `L3`, `L9` of its list of traps.
"""

from collections.abc import Callable, Iterable

from replica_manager.cell.cell_state import CellState
from replica_manager.cell.effects import CellRestarted
from replica_manager.cell.entries import Convicted, DomainReady, RepairPoint, Stopped, Suspected, decode_entry
from replica_manager.cell.roles import Role
from replica_manager.core_output import CoreOutput, NamedEvent
from replica_manager.peer_messages import Presence, Relay
from replica_manager.recovery.abandonment import Abandonment
from replica_manager.recovery.cell_restart import CellRestart
from replica_manager.recovery.repair import Repair
from replica_manager.standing import Standing

JOIN_AGAIN_MS = RELAY_AGAIN_MS = 1_000
ASK_AGAIN_MS = 1_000
RELAYED = (RepairPoint, DomainReady, Stopped, Suspected, Convicted)
"""Entries that a server in no quorum has others order."""


class Membership:
    """The standing of one server, and what it knows of its peers' ones."""

    def __init__(
        self,
        server: int,
        standing: Standing,
        patience_ms: int,
        cell: CellState,
        repair: Repair,
        restart: CellRestart,
        on_learners: Callable[[], None],
    ) -> None:
        """Begin.

        Args:
            server: this one.
            standing: what it is at first.
            patience_ms: how long a server that is to join may be absent.
            cell: roles and membership.
            repair: fills the domains with which this server joins.
            restart: brings its domains back.
            on_learners: called when `learners` may have changed.
        """
        self._server = server
        self.standing = standing
        self.incarnation = 1
        """Under which this server joins, or has joined; the shell sets it before anything is delivered."""
        self._cell = cell
        self._repair = repair
        self._restart = restart
        self._on_learners = on_learners
        self.learners = {server} if standing is Standing.LEARNING else set()
        """Servers in no quorum that follow the order, this one perhaps among them: they get what live servers get."""
        self._abandonment = Abandonment(server, patience_ms, cell, self.learners)
        self._has_asked_to_leave = False
        self._join_at_ms = 0
        self._ask_at_ms = 0
        self._relayed: dict[bytes, None] = {}
        """What others were asked to order and have not ordered yet, in order."""
        self._relay_at_ms = 0
        repair.is_joining = standing is Standing.LEARNING

    @property
    def is_coming_back(self) -> bool:
        """Whether it is not known yet what becomes of this server's memory and domains."""
        return self.standing in (Standing.RETURNING, Standing.RESTARTING)

    def follows(self, server: int) -> bool:
        """Whether a peer follows the order, in a quorum or not."""
        return server in self._cell.live_servers or server in self.learners

    def is_learning(self, server: int) -> bool:
        """Whether a peer says that it learns: it may have read that its former self left before this server has."""
        return server in self._restart.learning_peers()

    def _stand(self, standing: Standing, output: CoreOutput) -> None:
        former, self.standing = self.standing, standing
        output.has_new_standing = True
        self._say_presence_to_all(output)
        output.events.append(NamedEvent("standing_changed", {"standing": standing.value, "former": former.value}))

    # -- peers -------------------------------------------------------------------------------------------------

    def say_presence(self, server: int, output: CoreOutput) -> None:
        """Tell a peer what this server is: once per connection, and when it has changed."""
        output.sends.append((server, Presence(self.standing.value, self._cell.sequence)))

    def _say_presence_to_all(self, output: CoreOutput) -> None:
        for server in range(self._cell.f + 1):
            if server != self._server:
                self.say_presence(server, output)

    def maybe_ask(self, now_ms: int, output: CoreOutput) -> None:
        """Who does not serve says so again and again: what is said back may be lost, and this server waits for it."""
        if self.standing is not Standing.SERVING and now_ms >= self._ask_at_ms:
            self._ask_at_ms = now_ms + ASK_AGAIN_MS
            self._say_presence_to_all(output)

    def on_presence(self, server: int, standing: Standing, delivered: int, output: CoreOutput) -> None:
        """A peer says what it is, and how far it had read the order then.

        What former lives of this server did is ordered before that, or on its way.
        """
        self._restart.note_peer(server, standing)
        if standing is Standing.SERVING and self._repair.former_lives_through is None:
            self._repair.former_lives_through = delivered
        if standing is not Standing.SERVING and self.standing is Standing.SERVING:
            self.say_presence(server, output)
        self._note_learners()

    def on_peer_down(self, server: int) -> None:
        """A link to a peer broke."""
        self._restart.forget_peer(server)
        self._note_learners()

    def _note_learners(self) -> None:
        """Whoever learns and is not live (any more) gets what live servers get."""
        self.learners.clear()
        self.learners.update(self._restart.learning_peers().difference(self._cell.live_servers))
        if self.standing is Standing.LEARNING:
            # Even where the order, as far as it is read here, has this server among the live ones: in a former life.
            self.learners.add(self._server)
        self._on_learners()

    # -- coming in ---------------------------------------------------------------------------------------------

    def on_membership_changed(self, output: CoreOutput) -> None:
        """A server left or joined."""
        own = self._cell.members[self._server]
        # A learner reads of its former lives too, in which it joined, or was there from the start.
        if self.standing is Standing.LEARNING and own.is_live and own.incarnation == self.incarnation:
            self._repair.is_joining = False
            self._stand(Standing.SERVING, output)
        self._note_learners()

    def maybe_join(self, now_ms: int, output: CoreOutput) -> None:
        """Ask to be named when two domains are filled; again and again until it is so."""
        domains = self._repair.domains_to_join()
        if domains is not None and now_ms >= self._join_at_ms:
            self._join_at_ms = now_ms + JOIN_AGAIN_MS
            output.joins_with = domains

    def relay(self, output: CoreOutput) -> None:
        """Have others order what a server in no quorum cannot."""
        if self.standing is not Standing.LEARNING:
            return
        wanted = [payload for payload in output.proposals if isinstance(decode_entry(payload), RELAYED)]
        self._relayed.update(dict.fromkeys(wanted))
        self._send_to_one(wanted, output)
        output.proposals = []

    def _send_to_one(self, payloads: Iterable[bytes], output: CoreOutput) -> None:
        """Not to one that lives by the order as far as it is known here: in a former life that was this one itself."""
        for receiver in self._restart.serving()[:1]:
            output.sends.extend((receiver, Relay(payload)) for payload in payloads)

    def on_ordered(self, payload: bytes) -> None:
        """An entry was delivered; if this server had it relayed that is done."""
        self._relayed.pop(payload, None)

    def _relay_again(self, now_ms: int, output: CoreOutput) -> None:
        """A message may be lost, its receiver may end before it forwards it; an entry that comes twice is void."""
        if self._relayed and self.standing is Standing.LEARNING and now_ms >= self._relay_at_ms:
            self._relay_at_ms = now_ms + RELAY_AGAIN_MS
            self._send_to_one(self._relayed, output)

    # -- coming back -------------------------------------------------------------------------------------------

    def look_around(self, now_ms: int, output: CoreOutput) -> None:
        """A server that has started again: did the cell go on, or does it start again too?"""
        if self._restart.has_missed_the_cell():
            output.must_rejoin = True
        if self.standing is Standing.RETURNING and self._restart.is_together:
            self._stand(Standing.RESTARTING, output)
        if self.standing is Standing.RESTARTING:
            self._restart.maybe_begin(now_ms, self._cell.sequence + 1, output)
            if self._cell.restarting is not None:
                self._restart.maybe_answer(self._cell.restarting.token, output)

    def on_cell_restarted(self, effect: CellRestarted, output: CoreOutput) -> bool:
        """All domains are back or given up; return whether this server serves from now on."""
        is_ours = self._restart.on_restarted(effect)
        data = {"settled_through": effect.settled_through, "cursors": dict(effect.cursors)}
        output.events.append(NamedEvent("cell_restarted", data))
        if self.standing is not Standing.RESTARTING or not is_ours or self._server not in self._cell.live_servers:
            return False
        self._stand(Standing.SERVING, output)
        return True

    # -- going -------------------------------------------------------------------------------------------------

    def maybe_leave(self, output: CoreOutput) -> None:
        """A server none of whose domains can vote counts as crashed, unless it is the last one (`L3`)."""
        live = self._cell.live_servers
        if self._has_asked_to_leave or self.standing is not Standing.SERVING:
            return
        if live == (self._server,) or self._server not in live:
            return
        roles = {record.role for record in self._cell.domains_of(self._server)}
        if Role.ACTIVE not in roles and Role.PASSIVE not in roles:
            self._has_asked_to_leave = True
            output.events.append(NamedEvent("server_leaves", {"reason": "none of its domains can vote"}))
            output.is_leaving = True

    def on_timer(self, now_ms: int, output: CoreOutput) -> None:
        """A tick of a server that serves or learns."""
        if self.standing is Standing.SERVING:
            self._abandonment.on_timer(now_ms, output)
        self.maybe_join(now_ms, output)
        self._relay_again(now_ms, output)
