"""An adapter that lies: every n-th request gets a reply with one byte changed.  For tests of the voter.

Arguments: `EVERY MODULE[:FACTORY] [ARGUMENT…]`, where the module is that of an honest adapter.
It runs in a guest: Python 3.9, nothing but the standard library.
"""

from typing import Any, Sequence

from exec_wrapper.main import load_adapter
from exec_wrapper.service_adapter import Outcome, RequestContext, ServiceAdapter


class WrongReplyAdapter:
    """Passes everything on to an honest adapter, and changes some of its replies."""

    def __init__(self, honest: ServiceAdapter, every: int) -> None:
        """Change the reply to every request whose sequence number is a multiple of `every`."""
        self._honest = honest
        self._every = every

    def __getattr__(self, name: str) -> Any:
        """Give what the honest adapter has, for all but `execute`."""
        return getattr(self._honest, name)

    def execute(self, request: bytes, context: RequestContext) -> Outcome:
        """Execute honestly; the update stays right, so that only the reply tells."""
        outcome = self._honest.execute(request, context)
        if context.sequence % self._every != 0 or not outcome.reply:
            return outcome
        middle = len(outcome.reply) // 2
        wrong = bytes([outcome.reply[middle] ^ 1])
        return outcome._replace(reply=outcome.reply[:middle] + wrong + outcome.reply[middle + 1 :])


def create_adapter(arguments: Sequence[str]) -> WrongReplyAdapter:
    """Return the lying version of the adapter that `arguments` name."""
    every, module, *rest = arguments
    return WrongReplyAdapter(load_adapter(module, rest), int(every))
