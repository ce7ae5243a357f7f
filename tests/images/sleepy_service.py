"""The key-value store, slow: every request takes 20 ms."""

import time
from collections.abc import Sequence

from exec_wrapper.examples.key_value import KeyValueAdapter
from exec_wrapper.service_adapter import Outcome, RequestContext

EXECUTION_S = 0.02


class SleepyAdapter(KeyValueAdapter):
    """Takes its time."""

    def execute(self, request: bytes, context: RequestContext) -> Outcome:
        """See `ServiceAdapter`."""
        time.sleep(EXECUTION_S)
        return super().execute(request, context)


def create_adapter(_arguments: Sequence[str]) -> SleepyAdapter:
    """Return one without files."""
    return SleepyAdapter()
