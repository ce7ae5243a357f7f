"""The key-value service with a flaw: reading the key `poison` ends every replica that does it, as a bug would."""

import os
from collections.abc import Sequence

from exec_wrapper.examples.key_value import KeyValueAdapter
from exec_wrapper.examples.key_value import create_adapter as create_correct_adapter
from exec_wrapper.examples.key_value_commands import encode_get
from exec_wrapper.service_adapter import Outcome, RequestContext

POISON = encode_get(b"poison")


class PoisonousAdapter(KeyValueAdapter):
    """Ends at one request."""

    def execute(self, request: bytes, context: RequestContext) -> Outcome:
        """Execute a request; one of them ends the process."""
        if request == POISON:
            os._exit(11)
        return super().execute(request, context)


def create_adapter(arguments: Sequence[str]) -> KeyValueAdapter:
    """Return the adapter for the command line of the correct one."""
    correct = create_correct_adapter(arguments)
    correct.__class__ = PoisonousAdapter
    return correct
