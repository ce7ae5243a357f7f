"""Faults of the service: a `ServiceAdapter` around an honest one."""

import logging
import os
import threading
import time
from typing import Any, Callable, Iterator, Sequence

from exec_wrapper.service_adapter import Outcome, RequestContext, SequencedUpdate, ServiceAdapter

from .order_file import OrderFile
from .orders import FaultKind
from .treachery import Treachery

CRASH_EXIT_CODE = 86
_STATE_KINDS = (FaultKind.WRONG_PART, FaultKind.SHORT_STATE, FaultKind.ENDLESS_STATE)

_logger = logging.getLogger("treacherous")


class TreacherousAdapter:
    """Passes everything on to an honest adapter, as long as no order says otherwise.

    An order acts from the request behind its own on: all domains answer its own alike.
    """

    def __init__(self, honest: ServiceAdapter, treachery: Treachery, orders: OrderFile) -> None:
        """Take the orders of a former process of this domain."""
        self._honest = honest
        self._treachery = treachery
        self._orders = orders
        treachery.take_orders(orders.read())

    def __getattr__(self, name: str) -> Any:
        """Give what the honest adapter has, for all that is not defined here."""
        return getattr(self._honest, name)

    def execute(self, request: bytes, context: RequestContext) -> Outcome:
        """Execute honestly, then change the outcome as ordered."""
        begin_s = time.monotonic()
        self._end_or_hang()
        outcome = self._changed(self._honest.execute(request, context))
        self._delay(begin_s)
        self._treachery.stage(context.sequence, FaultKind.GARBAGE, FaultKind.EQUIVOCATION, FaultKind.FLOOD)
        self._take_orders(request)
        return outcome

    def apply_updates(self, updates: Sequence[SequencedUpdate], up_to: int) -> None:
        """Apply honestly, or not at all."""
        begin_s = time.monotonic()
        self._end_or_hang()
        is_false = bool(updates) and self._treachery.due(FaultKind.FALSE_APPLIED) is not None
        self._honest.apply_updates([] if is_false else updates, up_to)
        self._delay(begin_s)
        self._treachery.stage(up_to, FaultKind.GARBAGE, FaultKind.FLOOD)
        for update in updates:
            self._take_orders(update.update)

    def take_state(self, point: int, state_format: int, part_bytes_max: int) -> Iterator[bytes]:
        """Give the honest state, or what the orders make of it."""
        parts = self._honest.take_state(point, state_format, part_bytes_max)
        return changed_parts(parts, self._treachery) if self._treachery.is_armed(*_STATE_KINDS) else parts

    def _take_orders(self, data: bytes) -> None:
        for order in self._treachery.take_orders(data):
            _logger.warning("ordered: %s", order)
            self._orders.append(order)

    def _end_or_hang(self) -> None:
        if self._treachery.due(FaultKind.CRASH) is not None:
            os._exit(CRASH_EXIT_CODE)
        if self._treachery.due(FaultKind.HANG) is not None:
            _logger.warning("hangs")
            threading.Event().wait()

    def _delay(self, begin_s: float) -> None:
        slow, slower = self._treachery.due(FaultKind.SLOW), self._treachery.due(FaultKind.SLOWER)
        if slow is not None:
            time.sleep(max(slow.amount, 0) / 1000)
        if slower is not None:
            time.sleep(max(slower.amount - 1, 0) * (time.monotonic() - begin_s))

    def _changed(self, outcome: Outcome) -> Outcome:
        due = self._treachery.due
        if outcome.reply and due(FaultKind.WRONG_REPLY) is not None:
            outcome = outcome._replace(reply=with_flipped_bit(outcome.reply))
        if outcome.update:
            is_wrong, is_hidden = due(FaultKind.WRONG_UPDATE), due(FaultKind.HIDDEN_UPDATE)
            if is_wrong is not None:
                outcome = outcome._replace(update=with_flipped_bit(outcome.update))
            if is_hidden is not None:
                outcome = outcome._replace(update=b"")
        return outcome


def changed_parts(parts: Iterator[bytes], treachery: Treachery) -> Iterator[bytes]:
    """Yield the parts of a state as the orders want them; closes `parts`."""
    part = b""
    try:
        for part in parts:
            if treachery.due(FaultKind.WRONG_PART) is not None:
                part = with_flipped_bit(part)
            if treachery.due(FaultKind.SHORT_STATE) is not None:
                yield part[: len(part) // 2]
                return
            yield part
        while treachery.due(FaultKind.ENDLESS_STATE) is not None:
            yield part
    finally:
        close: Callable[[], None] = getattr(parts, "close", lambda: None)
        close()


def with_flipped_bit(data: bytes) -> bytes:
    """Return `data` with one bit in its middle changed; of nothing, one byte."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else b"\0"
