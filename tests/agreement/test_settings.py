"""Times and limits that would not work together are refused when they are made."""

from typing import Any

import pytest

from agreement.settings import AgreementSettings


def test_the_defaults_fit_together() -> None:
    """A cell without configuration of its own runs; a pipe of messages stays below 1 MiB."""
    settings = AgreementSettings()
    assert settings.witness_timeout_ms < settings.election_timeout_min_ms < settings.crash_timeout_ms
    assert max(settings.entry_bytes_max, settings.batch_bytes_max, settings.part_bytes_max) < 1024 * 1024


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"crash_timeout_ms": 1_999}, "crash_timeout_ms"),
        ({"heartbeat_ms": 301}, "heartbeat_ms"),
        ({"election_timeout_min_ms": 1_201}, "election_timeout_min_ms"),
        ({"witness_timeout_ms": 600}, "witness_timeout_ms"),
        ({"entry_bytes_max": 1000 * 1024 + 1}, "1000 KiB"),
        ({"batch_bytes_max": 1000 * 1024 + 1}, "1000 KiB"),
        ({"part_bytes_max": 1000 * 1024 + 1}, "1000 KiB"),
        ({"election_timeout_ceiling_ms": 1_199}, "election_timeout_ceiling_ms"),
        ({"slots_in_flight_max": 0}, "slots_in_flight_max"),
    ],
)
def test_a_value_just_outside_its_bound_is_refused_by_name(values: dict[str, Any], named: str) -> None:
    """The sentence of the error names the value that is wrong."""
    with pytest.raises(ValueError, match=named):
        AgreementSettings(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"crash_timeout_ms": 2_000},
        {"heartbeat_ms": 300},
        {"election_timeout_min_ms": 1_200},
        {"witness_timeout_ms": 599},
        {"part_bytes_max": 1000 * 1024},
        {"election_timeout_ceiling_ms": 1_200},
        {"slots_in_flight_max": 1},
    ],
)
def test_a_value_on_its_bound_is_taken(values: dict[str, Any]) -> None:
    """The bounds themselves are allowed."""
    settings = AgreementSettings(**values)
    assert all(getattr(settings, name) == value for name, value in values.items())
