"""What a server's shell tells its audit log: changes as the core tells them, and what a snapshot covers."""

import asyncio
from pathlib import Path

from agreement.changes import Entry
from agreement.output import Delivery, SnapshotInstalled
from replica_manager.cell.entries import Suspected, encode_entry
from replica_manager.standing import Standing
from tests.audit.logs import ServerLog, cell_at
from tests.replica_manager.test_malformed_peers import OneServer


def suspicion(sequence: int) -> Delivery:
    """Return an agreed suspicion."""
    return Delivery(sequence, Entry(1, 1, sequence, encode_entry(Suspected("s1.g1", f"late at {sequence}", 0))))


def test_agreed_changes_are_recorded_at_their_positions_and_a_snapshot_is_a_gap(tmp_path: Path) -> None:
    """A learner reads a piece of the order, is given the state of a peer, and reads on."""

    async def scenario() -> None:
        one = OneServer(Standing.LEARNING)
        one.server.audit = log.start("learning")
        one.server.on_deliveries([suspicion(1)])
        await asyncio.sleep(0)
        one.server.on_agreement_events([SnapshotInstalled(40, cell_at(40).encode())])
        one.server.on_deliveries([suspicion(41)])
        await asyncio.sleep(0)
        one.server.audit.close()
        one.server.halt()
        one.driver.close()

    log = ServerLog(tmp_path)
    asyncio.run(scenario())
    told = [(record.kind, record.position, record.data.get("through")) for record in log.chain.records]
    assert told == [
        ("log_opened", 0, None),
        ("domain_suspected", 1, None),
        ("roles_read", 0, 40),
        ("domain_suspected", 41, None),
        ("log_closed", 0, None),
    ]
