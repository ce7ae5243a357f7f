"""What a server is to the cell."""

import enum


class Standing(enum.Enum):
    """How a server takes part.

    Managers tell it each other whenever a link is new or it has changed, and again and again while they do not serve.
    """

    SERVING = "serving"
    """It orders, executes and answers."""
    RETURNING = "returning"
    """It has started again with its memory, and finds out whether the cell went on without it or starts again too."""
    RESTARTING = "restarting"
    """All servers have started again: it brings back its domains from their disks."""
    LEARNING = "learning"
    """It is in no quorum: it follows the order and fills fresh domains, until `ServerJoined` names it."""
