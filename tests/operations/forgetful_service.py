"""A key-value store that loses an entry when it is given a state, and says that all is well."""

from collections.abc import Iterator, Sequence

from exec_wrapper.examples.key_value import KeyValueAdapter
from exec_wrapper.examples.key_value import create_adapter as create_whole


class _Forgetful(KeyValueAdapter):
    def set_state(self, point: int, state_format: int, parts: Iterator[bytes]) -> None:
        super().set_state(point, state_format, parts)
        del self._values[max(self._values)]


def create_adapter(arguments: Sequence[str]) -> KeyValueAdapter:
    """Return the adapter."""
    adapter = create_whole(arguments)
    adapter.__class__ = _Forgetful
    return adapter
