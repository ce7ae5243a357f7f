"""What can go wrong on order: every kind of fault, what it needs, and the named events that prove it.  Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple, get_args

FaultName = Literal[
    "wrong-reply",
    "wrong-update",
    "hidden-update",
    "hang",
    "slow",
    "crash",
    "flood",
    "garbage",
    "equivocation",
    "rounding-database",
    "stop-domain",
    "suspend-domain",
    "kill-manager",
    "freeze-manager",
    "crash-server",
    "cut",
    "fill-disk",
    "step-clock",
]


class Place(Enum):
    """What a fault strikes."""

    DOMAIN = "a domain: `s0.active`, `s1.passive`"
    SERVER = "a server: `s0`, `leader`, `follower`"


class Means(Enum):
    """How a fault is brought about."""

    ORDER = "a request that orders the domain to misbehave"
    IMAGE = "an image variant that one server boots"
    COMMAND = "a control command of the server"
    PROCESS = "signals to processes"
    NETWORK = "a packet filter in the server's namespace"
    DISK = "the server's own file system"


class Sign(NamedTuple):
    """An event that proves a fault: of this kind, and about the target."""

    kind: str
    about: str = ""
    """Key of the event's data that names the target, a domain or a server; empty: the target server told it itself."""
    is_absent: bool = False
    """The key holds a list, and the target is missing in it."""


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One kind of fault."""

    place: Place
    means: Means
    signs: tuple[Sign, ...]
    """Any of them proves that the fault took effect."""
    is_replaced: bool = True
    """The domain does not come back: redundancy is only there again when another one has taken its place."""
    is_lie: bool = False
    """A domain that does this may be convicted."""
    ends_server: bool = False
    """Processes of the server end, and are started again."""
    lasts: bool = False
    """It ends after `duration_s`."""
    ends_when_shown: bool = False
    """Or at once when it has shown."""


_CONTRADICTS = Sign("vote_contradicts", "domain")
_GONE = Sign("domain_gone", "domain")
_MISBEHAVED = Sign("domain_misbehaved", "domain")
_SUSPECTED = Sign("domain_suspected", "domain")
_MISSED = Sign("vote_stalled", "contributed", is_absent=True)
_PEER_GONE = (
    Sign("peer_down", "member"),
    Sign("server_suspected", "suspect"),
    Sign("witness_used", "silent"),
    Sign("peer_unreachable", "member"),
)
_SILENT = (Sign("server_suspected", "suspect"), Sign("witness_used", "silent"), Sign("removed"), Sign("rejoining"))


def _lie(*signs: Sign) -> FaultKind:
    return FaultKind(Place.DOMAIN, Means.ORDER, signs, is_lie=True)


KINDS: Mapping[FaultName, FaultKind] = {
    "wrong-reply": _lie(_CONTRADICTS),
    "wrong-update": _lie(_CONTRADICTS),
    "hidden-update": _lie(_CONTRADICTS),
    "hang": FaultKind(Place.DOMAIN, Means.ORDER, (_SUSPECTED, _MISSED, _GONE)),
    "slow": FaultKind(Place.DOMAIN, Means.ORDER, (_SUSPECTED, _MISSED, _GONE), is_replaced=False),
    "crash": FaultKind(Place.DOMAIN, Means.ORDER, (_GONE,)),
    "flood": _lie(_MISBEHAVED),
    "garbage": _lie(_MISBEHAVED, _GONE),
    "equivocation": _lie(_MISBEHAVED, _CONTRADICTS),
    "rounding-database": FaultKind(Place.SERVER, Means.IMAGE, (_CONTRADICTS,), is_lie=True),
    "stop-domain": FaultKind(Place.DOMAIN, Means.COMMAND, (_GONE,)),
    "suspend-domain": FaultKind(Place.DOMAIN, Means.COMMAND, (_SUSPECTED, _MISSED, _GONE)),
    "kill-manager": FaultKind(Place.SERVER, Means.PROCESS, _PEER_GONE, ends_server=True),
    "freeze-manager": FaultKind(Place.SERVER, Means.PROCESS, _SILENT, lasts=True),
    "crash-server": FaultKind(Place.SERVER, Means.PROCESS, _PEER_GONE, ends_server=True),
    "cut": FaultKind(Place.SERVER, Means.NETWORK, (*_SILENT, Sign("public_unreachable", "server")), lasts=True),
    "fill-disk": FaultKind(
        Place.SERVER,
        Means.DISK,
        (Sign("manager_stopping"), Sign("domain_gone", "domain")),
        ends_server=True,
        lasts=True,
        ends_when_shown=True,
    ),
    "step-clock": FaultKind(Place.SERVER, Means.COMMAND, (Sign("clock_stepped"),), lasts=True),
}

assert set(KINDS) == set(get_args(FaultName)), "every name has a kind"
