"""What the agreement costs a server per entry, without network, disk and client.

Run it with `python -m benchmarks.agreement_micro`.  All servers of a cell run in this process; every message is encoded
and decoded, every write is handed back as durable.  The time that each server spends inside its core and codec is
divided by the entries delivered.
"""

import argparse
import random
import sys
import time
from collections import deque

from agreement.identifiers import Identity, MemberId
from agreement.messages import decode_message, encode_message
from agreement.node import Node
from agreement.settings import AgreementSettings

PAYLOAD = b"x" * 128
COMPACTION_ENTRIES = 10_000


class Bench:
    """Servers, the bytes between them, and the time that each has used."""

    def __init__(self, tolerated_faults: int) -> None:
        members = [Identity(MemberId.server(number), 1) for number in range(tolerated_faults + 1)]
        members += [Identity(MemberId.witness(number), 1) for number in range(tolerated_faults)]
        servers = members[: tolerated_faults + 1]
        settings = AgreementSettings()
        self.nodes = {known.member: Node.born(known, settings, members, random.Random(0), 0) for known in servers}
        self.seconds = dict.fromkeys(self.nodes, 0.0)
        self.messages = self.witness_messages = self.syncs = 0
        self._flights: deque[tuple[MemberId, MemberId, bytes]] = deque()
        self._tokens: dict[MemberId, int] = {}
        self._compacted = dict.fromkeys(self.nodes, 0)

    def elect(self) -> None:
        """Let the first server lead, and everybody know it."""
        for member, node in self.nodes.items():
            node.on_timer(0)
            self._take(member)
        self._settle()
        assert all(node.leader == MemberId.server(0) for node in self.nodes.values())

    def run(self, entries: int, together: int) -> None:
        """Order `entries`, `together` of which are under way at once, spread over the servers."""
        members = list(self.nodes)
        for start in range(0, entries, together):
            for member in members:
                began = time.perf_counter()
                for _ in range(start + members.index(member), start + together, len(members)):
                    self.nodes[member].propose(PAYLOAD, 0)
                self.seconds[member] += time.perf_counter() - began
                self._take(member)
            self._settle()

    def _settle(self) -> None:
        while self._flights or self._tokens:
            while self._flights:
                self._receive(*self._flights.popleft())
            for member in list(self._tokens):
                self._sync(member)

    def _receive(self, sender: MemberId, receiver: MemberId, data: bytes) -> None:
        began = time.perf_counter()
        self.nodes[receiver].receive(sender, decode_message(data), 0)
        self.seconds[receiver] += time.perf_counter() - began
        self._take(receiver)

    def _sync(self, member: MemberId) -> None:
        token = self._tokens.pop(member)
        self.syncs += 1
        began = time.perf_counter()
        self.nodes[member].on_persisted(token, 0)
        self.seconds[member] += time.perf_counter() - began
        self._take(member)

    def _take(self, member: MemberId) -> None:
        node = self.nodes[member]
        began = time.perf_counter()
        if node.delivered_sequence - self._compacted[member] >= COMPACTION_ENTRIES:
            self._compacted[member] = node.delivered_sequence
            node.compact(node.delivered_sequence)
        output = node.take_output()
        flights = [(member, receiver, encode_message(message)) for receiver, message in output.sends]
        self.seconds[member] += time.perf_counter() - began
        self.messages += len(flights)
        self.witness_messages += sum(not receiver.is_server for _, receiver, _ in flights)
        self._flights.extend(flights)
        if output.token is not None:
            self._tokens[member] = output.token


def main() -> None:
    """Print one line per number of entries that are under way together."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=1, help="f")
    parser.add_argument("--entries", type=int, default=50_000, help="how many are ordered per line")
    arguments = parser.parse_args()
    for together in (1, 4, 16, 64, 256):
        bench = Bench(arguments.faults)
        bench.elect()
        bench.run(arguments.entries, together)
        costs = "  ".join(f"{member} {1e6 * used / arguments.entries:5.1f}" for member, used in bench.seconds.items())
        messages, syncs = bench.messages / arguments.entries, bench.syncs / arguments.entries / len(bench.nodes)
        sys.stdout.write(
            f"{together:4} together: µs per entry {costs}; per entry {messages:.3f} messages, {syncs:.3f} syncs; "
            f"{bench.witness_messages} messages to witnesses\n"
        )


if __name__ == "__main__":
    main()
