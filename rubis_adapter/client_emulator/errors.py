"""Errors of the client emulator; all of them are its user's to correct.

What goes wrong with a request is no error here but a measurement: see `replies.Failure`.
"""

from rubis_adapter.errors import RubisError


class EmulatorError(RubisError):
    """Raised when an emulation cannot be run; the base of all errors of this package."""


class InvalidTransitionTable(EmulatorError):
    """A transition table has an unknown name, lacks a row, or has a value that is no probability.

    The file's author corrects it.  `InvalidSettings` covers everything that is not in a table.
    """


class InvalidSettings(EmulatorError):
    """A setting is out of its range, or the process may not open a connection for every client.

    Whoever called corrects it; nothing has been sent.
    """
