"""One emulated client without I/O: sessions of random users, one request after the other.

Order of a step: `next_request`, then `record_page` or `record_failure`, then think for `think_s`, then `advance`.
"""

import math
from random import Random
from typing import Final

from rubis_adapter.client_emulator.interactions import Interaction
from rubis_adapter.client_emulator.replies import Reply, found_nothing
from rubis_adapter.client_emulator.requests import HttpRequest, RequestBuilder
from rubis_adapter.client_emulator.transitions import TransitionTable
from rubis_adapter.client_emulator.walk import SessionWalk

THINK_MEAN_S: Final = 7.0
THINK_MAX_S: Final = 70.0
"""TPC-W's think time, which RUBiS uses: negative exponential, cut off at ten times the mean."""


class Visitor:
    """The client number `client`; everything it draws comes from one random source of its own."""

    def __init__(self, table: TransitionTable, users: int, seed: int, client: int) -> None:
        self._table = table
        self._random = Random(f"{seed}:{client}")
        self._requests = RequestBuilder(self._random, users, f"{seed}:{client}")
        self._page = b""
        self._found_nothing = False
        self._has_failed = False
        self._walk = self._new_session()

    def _new_session(self) -> SessionWalk:
        self._requests.draw_user()
        return SessionWalk(self._table, self._random)

    def next_request(self) -> tuple[Interaction, HttpRequest]:
        """What to send now.

        Where the page before lacks what the drawn interaction needs (a list without items, say) the user goes back
        until a request can be made; the one for `Home` always can.
        """
        request = self._requests.build(self._walk.current, self._page)
        while request is None:
            self._walk.go_back()
            request = self._requests.build(self._walk.current, self._page)
        return self._walk.current, request

    def record_page(self, reply: Reply) -> None:
        """The request succeeded: the next one is made from this page."""
        self._page = reply.body
        self._found_nothing = found_nothing(reply)

    def record_failure(self) -> None:
        """The request failed: the user returns to `Home`."""
        self._page = b""
        self._found_nothing = False
        self._has_failed = True

    def think_s(self) -> float:
        """Draws the seconds until the next interaction."""
        uniform = self._random.random()
        return THINK_MAX_S if uniform <= 0 else min(THINK_MAX_S, -THINK_MEAN_S * math.log(uniform))

    def advance(self) -> None:
        """Goes to the next interaction.

        After the last one of a session another user starts at `Home`.  After a page that found nothing the draw is
        made all the same and then taken back, as in the original: it decides how far back the user goes.
        """
        if self._has_failed:
            self._has_failed = False
            self._walk.reset()
        elif self._walk.advance() is None:
            self._walk = self._new_session()
        elif self._found_nothing:
            self._walk.go_back()
        self._found_nothing = False
