"""Users of the auction site, on the clients' network: each has a connection of their own."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.client import HTTPConnection

from replica_manager.config_addresses import parse_address
from replica_manager.network import namespaces
from rubis_adapter.auction.presentation import SERVLETS
from tests.vm.vm_cell import VmCell
from tests.vm.waiting import PATIENCE_S


class AuctionUser:
    """One connection to one server."""

    def __init__(self, cell: VmCell, server: int, user_id: int) -> None:
        """Connect."""
        self.user_id = user_id
        own = next(one for one in cell.config.server if one.id == server)
        address = parse_address(own.public_address)
        self._http = HTTPConnection(address.host, address.port)
        self._http.sock = namespaces.call_in(
            cell.clients_place, lambda: socket.create_connection((address.host, address.port), PATIENCE_S)
        )

    def send(self, page: str) -> None:
        """Ask for a page, such as `ViewItem?itemId=1`, and do not wait for it."""
        self._http.request("GET", f"{SERVLETS}{page}")

    def see(self, page: str) -> str:
        """Ask for a page and return it."""
        self.send(page)
        reply = self._http.getresponse()
        text = reply.read().decode()
        assert reply.status == 200, text
        assert "ERROR" not in text, text
        return text

    def has_heard(self) -> bool:
        """Whether anything came since the last page that was seen."""
        self._http.sock.setblocking(False)
        try:
            return bool(self._http.sock.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False
        finally:
            self._http.sock.settimeout(PATIENCE_S)

    def bid_page(self, item: int, bid: Decimal) -> str:
        """Return the page that stores a bid."""
        amounts = f"minBid=1&bid={bid}&maxBid={bid}&qty=1&maxQty=1"
        return f"StoreBid?itemId={item}&userId={self.user_id}&{amounts}"

    def close(self) -> None:
        """Hang up."""
        self._http.close()


@contextmanager
def auction_user(cell: VmCell, server: int, user_id: int) -> Iterator[AuctionUser]:
    """Give a user, who leaves in the end."""
    user = AuctionUser(cell, server, user_id)
    try:
        yield user
    finally:
        user.close()
