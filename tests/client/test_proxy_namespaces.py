"""A cell in network namespaces: its servers can be reached from the clients' one only, and the proxy goes there."""

import asyncio

import pytest

from replica_manager.network import namespaces
from replica_manager.network.address_plan import CLIENTS_HOST, PUBLIC_NETWORK, namespace_name
from tests.client.web_cell import browse, spare_proxy, web_cell

pytestmark = [pytest.mark.netns, pytest.mark.slow]


async def status_of(address: tuple[str, int]) -> int:
    async with browse(address) as browser:  # type: ignore[arg-type]
        return (await browser.ask(b"POST", b"/token"))[0]


def test_a_proxy_serves_this_machine_or_the_clients_of_the_cell() -> None:
    """It listens here, or inside; in both cases it connects from inside."""
    with web_cell("namespaces") as cell:
        with spare_proxy(cell.file) as proxy:
            assert asyncio.run(status_of(proxy.address)) == 200
            assert proxy.end() == 0
        place = namespace_name(cell.config.cell.name, "clients")
        with spare_proxy(cell.file, "--inside", host=f"{PUBLIC_NETWORK}.{CLIENTS_HOST}") as proxy:
            assert namespaces.call_in(place, lambda: asyncio.run(status_of(proxy.address))) == 200
            # From here nobody has this address; a gateway on the way out may answer for it, but not as a cell does.
            with pytest.raises((OSError, EOFError)):
                asyncio.run(asyncio.wait_for(status_of(proxy.address), 2))
            assert proxy.end() == 0
