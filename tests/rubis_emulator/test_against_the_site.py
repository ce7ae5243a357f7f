"""The emulator against the real auction site, on both databases: pages and their readers must agree."""

import asyncio
from random import Random

import pytest

from rubis_adapter.client_emulator import EmulatorSettings, run_emulation
from rubis_adapter.client_emulator.http_client import HttpClient
from rubis_adapter.client_emulator.interactions import Interaction
from rubis_adapter.client_emulator.replies import FailedRequest, Reply, found_nothing, judge
from rubis_adapter.client_emulator.requests import HttpRequest, RequestBuilder
from rubis_adapter.tiers.service_processes import DatabaseKind
from tests.rubis_emulator.native_site import NativeSite

pytestmark = pytest.mark.db

EXPECTED_OFTEN = 10


@pytest.mark.parametrize("database", list(DatabaseKind))
def test_twenty_users_shop_and_bid_without_a_failed_request(database: DatabaseKind) -> None:
    """Whatever a page links to can be followed, and whatever a form holds can be sent."""

    async def run() -> None:
        async with NativeSite(database) as site:
            settings = EmulatorSettings(
                addresses=(("127.0.0.1", site.port),),
                clients=20,
                think_time_scale=0.01,
                up_ramp_s=1.0,
                session_s=12.0,
                down_ramp_s=1.0,
                loads_images=True,
            )
            document = (await run_emulation(settings, lambda _: None)).to_json()
        assert document["failures"] == {}
        assert document["failed_requests"] == document["all_phases"]["failed_requests"] == 0
        assert document["requests"] > 300
        assert 0 < document["sorry_share"] <= 0.2
        assert document["modifying_requests"] > 0.04 * document["requests"]
        assert document["images"]["requests"] > 0 == document["images"]["failed"]
        expected = document["expected_interactions"]
        often = {name for name, number in expected.items() if number >= EXPECTED_OFTEN}
        assert often <= document["interactions"].keys()

    asyncio.run(run())


class Reader:
    """One user who visits given pages, each from the one before."""

    def __init__(self, site: NativeSite) -> None:
        self._client = HttpClient(asyncio.get_running_loop(), [("127.0.0.1", site.port)], 0, 30.0)
        self._requests = RequestBuilder(Random(1), 500, "reader")
        self._requests.user_id = 77
        self.page = b""

    async def fetch(self, request: HttpRequest) -> Reply:
        result: asyncio.Future[Reply | FailedRequest] = asyncio.get_running_loop().create_future()
        self._client.request(request, result.set_result)
        reply = await result
        assert isinstance(reply, Reply)
        return reply

    async def visit(self, interaction: Interaction) -> None:
        request = self._requests.build(interaction, self.page)
        assert request is not None, f"the page before {interaction} lacks what it needs"
        reply = await self.fetch(request)
        assert judge(interaction, reply) is None
        assert not found_nothing(reply), interaction
        self.page = reply.body

    def close(self) -> None:
        self._client.close()


SERVLETS = "/rubis_servlets/servlet/edu.rice.rubis.servlets."
COMMENTING = (
    Interaction.VIEW_ITEM,
    Interaction.PUT_COMMENT_AUTH,
    Interaction.PUT_COMMENT,
    Interaction.STORE_COMMENT,
)
FOR_THE_ID_0 = {
    Interaction.SEARCH_ITEMS_IN_CATEGORY: "SearchItemsByCategory?category=0&categoryName=x&page=0&nbOfItems=20",
    Interaction.SEARCH_ITEMS_IN_REGION: "SearchItemsByRegion?region=0&category=1&page=0&nbOfItems=20",
    Interaction.SELL_ITEM_FORM: "SellItemForm?category=0&user=77",
}


def test_what_the_mixes_do_not_reach_or_not_surely() -> None:
    """A comment through the login that no table leads to; and the id 0, which users draw and nothing has."""

    async def run() -> None:
        async with NativeSite(DatabaseKind.MARIADB) as site:
            reader = Reader(site)
            reader.page = b'<a href="ViewItem?itemId=201">'
            for interaction in COMMENTING:
                await reader.visit(interaction)
            for interaction, query in FOR_THE_ID_0.items():
                reply = await reader.fetch(HttpRequest(SERVLETS + query))
                assert judge(interaction, reply) is None
                assert found_nothing(reply)
            reader.close()

    asyncio.run(run())
