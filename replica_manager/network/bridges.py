"""Bridges, virtual cables, addresses and packet filters of the network namespace that the calling thread is in.

All steps are idempotent: what is there stays, what is missing is made.  They block and must not run in a thread with a
running event loop: pyroute2's synchronous interface has one of its own.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from replica_manager.network.errors import NetworkError

INTERFACE_NAME_BYTES_MAX = 15
NFT_TIMEOUT_S = 30
TABLE = "spare"


@dataclass(frozen=True, slots=True)
class HostBridge:
    """A bridge of a real host, on which only the privileged domain has a device."""

    name: str
    """Name of the bridge: `public`, `private`, or what the host calls them."""
    address: str = ""
    """`address/prefix`; empty: the host has given it one already."""
    uplink: str = ""
    """The network card that becomes a port of it; empty: there already.  Its own addresses stop working."""


class Links:
    """Devices of one namespace; made by `links`."""

    def __init__(self, route: IPRoute) -> None:
        self._route = route

    def ensure_bridge(self, name: str) -> None:
        """Make a bridge that forwards from the first packet on, and switch it on."""
        if self._index(name) is None:
            # Without these the first packets wait 30 s for the spanning tree, or are lost to multicast snooping.
            settings = {"br_stp_state": 0, "br_forward_delay": 0, "br_mcast_snooping": 0}
            self._add(name, kind="bridge", **settings)
        self.switch_on(name)

    def ensure_cable(self, name: str, peer_name: str, peer_namespace: Path) -> None:
        """Make a virtual cable from `name` here to `peer_name` in the namespace with this file."""
        if self._index(name) is not None:
            return
        descriptor = os.open(peer_namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._add(name, kind="veth", peer={"ifname": peer_name, "net_ns_fd": descriptor})
        finally:
            os.close(descriptor)

    def attach(self, port: str, bridge: str) -> None:
        """Make `port` a port of `bridge`, and switch it on."""
        with _named(f"{port} cannot become a port of {bridge}"):
            self._route.link("set", index=self._require(port), master=self._require(bridge))
        self.switch_on(port)

    def ensure_address(self, name: str, address: str, prefix_length: int) -> None:
        """Give `name` an address, and switch it on."""
        index = self._require(name)
        present = {str(found.get("address")) for found in self._route.get_addr(index=index)}
        if address not in present:
            with _named(f"{name} cannot get the address {address}/{prefix_length}"):
                self._route.addr("add", index=index, address=address, prefixlen=prefix_length)
        self.switch_on(name)

    def switch_on(self, name: str) -> None:
        """Set the device up."""
        with _named(f"{name} cannot be switched on"):
            self._route.link("set", index=self._require(name), state="up")

    def remove(self, name: str) -> bool:
        """Remove a device; tell whether it was there."""
        index = self._index(name)
        if index is None:
            return False
        with _named(f"{name} cannot be removed"):
            self._route.link("del", index=index)
        return True

    def names(self) -> list[str]:
        """Return the names of all devices."""
        return sorted(str(link.get("ifname")) for link in self._route.get_links())

    def _add(self, name: str, **settings: object) -> None:
        if len(name.encode()) > INTERFACE_NAME_BYTES_MAX:
            raise NetworkError(f"device name {name} is longer than {INTERFACE_NAME_BYTES_MAX} bytes")
        with _named(f"{name} cannot be made"):
            self._route.link("add", ifname=name, **settings)

    def _index(self, name: str) -> int | None:
        found = self._route.link_lookup(ifname=name)
        return int(found[0]) if found else None

    def _require(self, name: str) -> int:
        index = self._index(name)
        if index is None:
            raise NetworkError(f"there is no device {name}")
        return index


@contextmanager
def links() -> Iterator[Links]:
    """Open the devices of the calling thread's namespace."""
    with IPRoute() as route:
        yield Links(route)


def ensure_host_bridges(bridges: list[HostBridge]) -> None:
    """Make the bridges of a real host, in the calling thread's namespace.

    Raises:
        NetworkError: a card is missing, or the kernel refuses.
    """
    with links() as devices:
        for bridge in bridges:
            devices.ensure_bridge(bridge.name)
            if bridge.uplink:
                devices.attach(bridge.uplink, bridge.name)
            if bridge.address:
                address, _, prefix_length = bridge.address.partition("/")
                devices.ensure_address(bridge.name, address, int(prefix_length))


def filter_rules(networks: dict[str, str]) -> str:
    """Return the packet filter of a server: a device takes packets for its own network, and nothing is passed on.

    `networks` maps a device to its network, `address/prefix`.  Without the first rule a client would reach the private
    address through the public device: Linux answers for all its addresses on all its devices.
    """
    drops = "\n".join(
        f'    iifname "{device}" ip daddr != {network} drop' for device, network in sorted(networks.items())
    )
    return f"""\
add table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
  chain input {{
    type filter hook input priority filter; policy accept;
{drops}
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
  }}
}}
"""


def install_filter(rules: str) -> None:
    """Replace the packet filter of the calling thread's namespace, in one transaction.

    Raises:
        NetworkError: `nft` is missing or refuses.
    """
    try:
        subprocess.run(
            ["nft", "-f", "-"], input=rules, text=True, capture_output=True, check=True, timeout=NFT_TIMEOUT_S
        )
    except FileNotFoundError as error:
        raise NetworkError("nft is missing: install the package nftables") from error
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        words = str(error.stderr or error).strip().splitlines()[0]
        raise NetworkError(f"the packet filter cannot be installed: {words}") from error


def settle_protocols() -> None:
    """Switch off IPv6 and forwarding, and answer for an address on its own device only, in the thread's namespace.

    IPv6 gives every device an address of its own that no plan and no filter knows.
    """
    settings = {
        "ipv6/conf/all/disable_ipv6": "1",
        "ipv6/conf/default/disable_ipv6": "1",
        "ipv4/ip_forward": "0",
        "ipv4/conf/all/arp_ignore": "1",
        "ipv4/conf/all/arp_announce": "2",
    }
    for name, value in settings.items():
        path = Path("/proc/sys/net") / name
        try:
            if path.exists():
                path.write_text(value)
        except OSError as error:
            raise NetworkError(f"{path} cannot be set to {value}: {error.strerror}") from error


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Turn the kernel's refusal into a sentence."""
    try:
        yield
    except NetlinkError as error:
        raise NetworkError(f"{what}: {os.strerror(error.code)}") from error
