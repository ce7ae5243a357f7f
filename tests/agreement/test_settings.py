"""Settings that contradict each other are refused at once, not when the cell is in trouble."""

from collections.abc import Callable

import pytest

from agreement.settings import AgreementSettings


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: AgreementSettings(crash_timeout_ms=1_999), "crash_timeout_ms is 1999"),
        (lambda: AgreementSettings(heartbeat_ms=400), "heartbeat_ms"),
        (lambda: AgreementSettings(witness_timeout_ms=600), "witness_timeout_ms"),
        (lambda: AgreementSettings(entry_bytes_max=2**20), "1 MiB"),
        (lambda: AgreementSettings(slots_in_flight_max=0), "slots_in_flight_max"),
        (lambda: AgreementSettings(election_timeout_ceiling_ms=1_000), "election_timeout_ceiling_ms"),
    ],
)
def test_a_contradiction_is_refused(make: Callable[[], AgreementSettings], sentence: str) -> None:
    """The sentence names the setting."""
    with pytest.raises(ValueError, match=sentence):
        make()
