"""A vote that outlived its member's process is told when the leader asks again."""

from agreement.messages import Accept
from agreement.settings import AgreementSettings
from tests.agreement.local_cell import S0, S1, LocalCell


def test_votes_durable_before_a_restart_are_told_after_it() -> None:
    """A1 stays live: a restart with intact storage keeps the votes, so it must also go on answering for them.

    All slots in flight hold such votes here, so that no new proposal can heal what would be kept silent.
    """
    cell = LocalCell(1, settings=AgreementSettings(slots_in_flight_max=2))
    cell.elect()
    cell.run()
    for number in range(2):
        cell.propose(S0, b"x%d" % number)
    cell.sync(S0)
    for frame in [frame for frame in cell.pool if isinstance(frame[2], Accept)]:
        cell.deliver(cell.pool.index(frame))
    cell.sync(S1)
    cell.pool.clear()  # every Accepted is lost
    cell.crash(S1)
    cell.restart(S1)
    cell.propose(S0, b"y")
    cell.advance(60_000)
    assert cell.payloads(S0) == [b"x0", b"x1", b"y"]
