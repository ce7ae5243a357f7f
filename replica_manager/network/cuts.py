"""Cuts a server of a one-machine cell off a network, in one direction or both, by a packet filter in its namespace.

A filter, not a link that is down: the other end notices nothing, as with a switch that lost its way.
"""

from replica_manager.network.bridges import install_filter

CUT_TABLE = "spare_cut"
_HOOKS = {"in": ("input", "iifname"), "out": ("output", "oifname")}
DIRECTIONS = {"in": ("in",), "out": ("out",), "both": ("in", "out")}


def cut(network: str, direction: str) -> None:
    """Drop everything on `network` (`public` or `private`), in the calling thread's namespace.

    Args:
        network: the device.
        direction: `in`: nothing is received; `out`: nothing is sent; `both`.

    Raises:
        NetworkError: `nft` is missing or refuses.
    """
    install_filter(cut_rules(network, direction))


def mend() -> None:
    """Remove all cuts in the calling thread's namespace; idempotent.

    Raises:
        NetworkError: `nft` is missing or refuses.
    """
    install_filter(f"add table inet {CUT_TABLE}\ndelete table inet {CUT_TABLE}\n")


def cut_rules(network: str, direction: str) -> str:
    """Return the packet filter of a cut.  Pure."""
    chains = "".join(_chain(network, one) for one in DIRECTIONS[direction])
    return f"add table inet {CUT_TABLE}\ndelete table inet {CUT_TABLE}\ntable inet {CUT_TABLE} {{\n{chains}}}\n"


def _chain(network: str, direction: str) -> str:
    hook, device = _HOOKS[direction]
    head = f"type filter hook {hook} priority -10; policy accept;"
    return f'  chain {hook} {{\n    {head}\n    {device} "{network}" drop\n  }}\n'
