"""Histories made from an execution that is known, and a second way to judge small ones."""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

from benchmarks.linearizability.model import KeyValueModel, Refusal, Value
from benchmarks.linearizability.operation import Operation
from exec_wrapper.examples.key_value import KeyValueAdapter
from exec_wrapper.examples.key_value_commands import (
    encode_append,
    encode_compare_and_set,
    encode_delete,
    encode_echo,
    encode_get,
    encode_set,
    encode_stamp,
)
from exec_wrapper.service_adapter import RequestContext

MODEL = KeyValueModel()


class Service:
    """The key-value service itself, one request at a time."""

    def __init__(self) -> None:
        self._adapter = KeyValueAdapter()
        self._sequence = 0

    def execute(self, payload: bytes) -> bytes:
        """Return the reply."""
        self._sequence += 1
        context = RequestContext(self._sequence, self._sequence * 1000, b"%032d" % self._sequence)
        return self._adapter.execute(payload, context).reply


def draw_payload(draw: random.Random, key: bytes, value: bytes) -> bytes:
    """Return one of the service's requests."""
    return draw.choice(
        [
            encode_get(key),
            encode_get(key),
            encode_set(key, value),
            encode_append(key, value),
            encode_delete(key),
            encode_compare_and_set(key, value, draw.choice([None, b"0;"])),
            encode_echo(value),
            encode_stamp(key),
        ]
    )


def overlapping_history(
    draw: random.Random, count: int, keys: int, clients: int, pending_share: float = 0.0
) -> list[Operation]:
    """Execute `count` requests one after another and give each an interval around its moment.

    Every key has `clients` clients with one request under way each.
    """
    service = Service()
    free_from = {(key, client): 0.0 for key in range(keys) for client in range(clients)}
    operations: list[Operation] = []
    for number in range(count):
        moment = float(number + 1)
        free = [who for who, since in free_from.items() if since < moment]
        if not free:
            continue
        key, client = draw.choice(free)
        payload = draw_payload(draw, b"key %d" % key, b"%d;" % number)
        reply = service.execute(payload)
        start = max(free_from[key, client], moment - draw.expovariate(1 / (keys * clients)))
        end = moment + draw.expovariate(1 / (keys * clients))
        name = f"{key}.{client}"
        if draw.random() < pending_share and payload[:1] != encode_stamp(b"")[:1]:
            free_from[key, client] = float("inf")
            operations.append(Operation(name, payload, _ns(start)))
        else:
            free_from[key, client] = end
            operations.append(Operation(name, payload, _ns(start), _ns(end), reply))
    draw.shuffle(operations)
    return operations


def _ns(moment: float) -> int:
    return int(moment * 1_000_000)


def is_linearizable_by_permutation(operations: Sequence[Operation]) -> bool:
    """Try every order of every choice of pending operations: slow, and too simple to be wrong."""
    by_key: dict[bytes, list[Operation]] = {}
    for operation in operations:
        by_key.setdefault(MODEL.key_of(operation.payload), []).append(operation)
    return all(_has_order(on_key) for on_key in by_key.values())


def _has_order(operations: list[Operation]) -> bool:
    answered = [one for one in operations if not one.is_pending]
    pending = [one for one in operations if one.is_pending]
    choices = [
        answered + [one for bit, one in enumerate(pending) if chosen >> bit & 1] for chosen in range(1 << len(pending))
    ]
    return any(_keeps_time(order) and _explains(order) for choice in choices for order in permutations(choice))


def _keeps_time(order: Sequence[Operation]) -> bool:
    return not any(
        later.replied_ns is not None and later.replied_ns < earlier.invoked_ns
        for position, earlier in enumerate(order)
        for later in order[position + 1 :]
    )


def _explains(order: Sequence[Operation]) -> bool:
    state: Value = MODEL.initial
    for operation in order:
        after = MODEL.step(state, operation)
        if isinstance(after, Refusal):
            return False
        state = after
    return True


def with_reply(operations: list[Operation], index: int, reply: bytes) -> list[Operation]:
    """Return the history with another reply to one operation."""
    changed = list(operations)
    changed[index] = replace(operations[index], reply=reply)
    return changed
