"""A witness that missed one slot must still be of use for the next ones.  Source: design "Configurations"."""

from agreement.identifiers import MemberId
from tests.scenarios.agreement_bench import AgreementBench


def test_a_witness_that_missed_a_decided_slot_still_makes_a_quorum_for_later_ones() -> None:
    """f = 2.  1. Server 1 is down; the witnesses stand in.  2. The `Accept` of slot n to witness 0 is lost; server 2
    and witness 1 decide it.  3. Server 2 crashes.  4. Nobody proposes n again, so the run of votes of witness 0 would
    end there for ever, and the leader and both witnesses, a quorum, would decide nothing more.
    """
    bench = AgreementBench(f=2)
    bench.down.add(MemberId.server(1))
    bench.run(600)
    bench.propose(0, b"with witnesses")

    bench.is_lost = lambda _sender, receiver, _message: receiver == MemberId.witness(0)
    bench.propose(0, b"without witness 0")
    bench.is_lost = lambda *_: False
    assert bench.payloads(0) == [b"with witnesses", b"without witness 0"]

    bench.down.add(MemberId.server(2))
    bench.propose(0, b"after the second crash")
    bench.run(2000)
    assert bench.payloads(0)[-1] == b"after the second crash"
