"""A visitor with a real browser registers, looks around, bids and sells."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import ConsoleMessage, Page, sync_playwright

from tests.rubis.running_replica import FIRST_ITEM, RunningReplica

pytestmark = [pytest.mark.db, pytest.mark.browser]

CHROMIUM = Path("/usr/bin/chromium")
WIDTHS = (1200, 400)


@pytest.fixture
def address(running_mariadb: RunningReplica) -> Iterator[str]:
    """The site behind a TCP port: what an intake does, without a cell."""
    running_mariadb.reset()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            head = [self.requestline, *(f"{name}: {value}" for name, value in self.headers.items()), "", ""]
            with lock:
                outcome = running_mariadb.execute("\r\n".join(head).encode("latin-1") + body)
            self.wfile.write(outcome.reply)

        do_POST = do_GET  # noqa: N815 - the base class looks for this name

        def log_message(self, format: str, *arguments: object) -> None:
            """Prints nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    assert CHROMIUM.exists(), "install the Debian package chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        opened = browser.new_page(base_url=address)
        complaints: list[str] = []

        def note(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning") and "favicon.ico" not in str(message.location):
                complaints.append(message.text)

        opened.on("console", note)
        yield opened
        browser.close()
        assert complaints == []


def log_in(page: Page, nickname: str, password: str) -> None:
    page.fill("input[name=nickname]", nickname)
    page.fill("input[name=password]", password)
    page.click("main form button")


@pytest.mark.parametrize("width", WIDTHS)
def test_pages_fit_the_window_and_show_their_pictures(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    servlets = "/rubis_servlets/servlet/edu.rice.rubis.servlets."
    for path in (
        "/", "/rubis_servlets/browse.html", "/rubis_servlets/register.html", f"{servlets}BrowseCategories",
        f"{servlets}BrowseRegions", f"{servlets}SearchItemsByCategory?category=6",
        f"{servlets}ViewItem?itemId={FIRST_ITEM}", f"{servlets}ViewBidHistory?itemId={FIRST_ITEM}",
        f"{servlets}ViewUserInfo?userId=3", f"{servlets}ViewItem?itemId=0",
    ):  # fmt: skip
        page.goto(path)
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, path
        assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)"), path
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(250, 247, 242)", path


def test_a_visitor_registers_bids_and_finds_the_bid(page: Page) -> None:
    page.goto("/")
    page.click("text=Register >> nth=0")
    for name, value in (("firstname", "Ada"), ("lastname", "Byron"), ("nickname", "ada"), ("password", "engine")):
        page.fill(f"input[name={name}]", value)
    page.fill("input[name=email]", "ada@example.org")
    page.select_option("select[name=region]", "GA--Atlanta")
    page.click("main form button")
    assert "Welcome, Ada" in page.inner_text("main")
    page.click("text=Browse auctions")
    page.click("text=All categories")
    page.click("text=Collectibles")
    page.click(".listing-name >> nth=0")
    name = page.inner_text("h1")
    page.click("img[alt='Bid now']")
    log_in(page, "ada", "engine")
    page.fill("input[name=bid]", "4321.50")
    page.fill("input[name=maxBid]", "5000")
    page.click("main form button")
    assert "Your bid is in" in page.inner_text("main")
    page.click("nav >> text=My RUBiS")
    log_in(page, "ada", "engine")
    assert name in page.inner_text("main")
    assert "$4,321.50" in page.inner_text("main")


def test_a_user_sells_something(page: Page) -> None:
    page.goto("/rubis_servlets/sell.html")
    log_in(page, "user3", "password3")
    page.click("text=Stamps")
    page.fill("input[name=name]", "Blue <b>Mauritius</b>")
    page.fill("textarea[name=description]", "Two pence.\nUnused & \"mint\" = 'rare'. Sorry, no ERROR.")
    page.fill("input[name=initialPrice]", "100")
    page.click("main form button")
    page.click("text=Blue <b>Mauritius</b>")
    assert page.inner_text("h1") == "Blue <b>Mauritius</b>"
    assert page.inner_text(".description") == "Two pence.\nUnused & \"mint\" = 'rare'. Sorry, no ERROR."
