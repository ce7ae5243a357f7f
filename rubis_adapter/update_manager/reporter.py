"""Ties the update manager to its connection: what the site calls around every request."""

from rubis_adapter.update_manager.channel import UpdateSender
from rubis_adapter.update_manager.manager import UpdateManager


class SocketReporter:
    """Sends a request's update to the adapter; a request that changed nothing sends nothing."""

    def __init__(self, manager: UpdateManager, sender: UpdateSender) -> None:
        """`manager` watches the engine that the site uses."""
        self._manager = manager
        self._sender = sender

    def begin(self, sequence: int) -> None:
        """A request starts."""
        self._manager.begin(sequence)

    def finish(self, sequence: int) -> bool:
        """The request has ended; whether an update was sent.  Raises `OSError` if the adapter is not there."""
        update = self._manager.finish()
        if update:
            self._sender.send(sequence, update)
        return bool(update)
