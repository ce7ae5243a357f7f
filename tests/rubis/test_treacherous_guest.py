"""The auction site in a domain that misbehaves on order: real tiers, the layer around the adapter of production."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exec_wrapper.wire import Execute, Executed, Hello, WrapperHello
from images.fault_orders import FaultKind, FaultOrder, encode_order, http_form, http_read, treacherous_command
from images.recipes.fault_injection.treacherous.service_faults import CRASH_EXIT_CODE
from rubis_adapter.auction.presentation import SERVLETS
from tests.rubis.running_replica import START_US, page_request
from tests.rubis.test_guest import DEADLINE_SECONDS, Manager, data_dir, directory, group_members

pytestmark = pytest.mark.db

__all__ = ["data_dir", "directory"]
HOME = b"GET /rubis_servlets/ HTTP/1.1\r\nHost: spare\r\n\r\n"


class Domain:
    """A running domain that has said hello."""

    def __init__(self, directory: Path, data_dir: Path) -> None:
        link = directory / "link.sock"
        words = ("--link", "unix:{channel}", "--data-dir", str(data_dir), "--run-dir", str(directory / "run"))
        values = {"{channel}": str(link), "{disk}": str(directory), "{domain}": "s0.g1"}
        command = list(treacherous_command("rubis_adapter.guest", *words))
        for placeholder, value in values.items():
            command = [word.replace(placeholder, value) for word in command]
        self.process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        self.manager = Manager(link)
        self._sequence = 0
        assert isinstance(self.manager.ask(Hello(bytes(16), 2**24, 2**18)), WrapperHello)

    def execute(self, request: bytes) -> Executed:
        """Execute the next request."""
        self.give(request)
        executed = self.manager.hear()
        assert isinstance(executed, Executed)
        return executed

    def give(self, request: bytes) -> None:
        """Have the next request executed; do not wait."""
        self._sequence += 1
        self.manager.say(Execute(self._sequence - 1, self._sequence, START_US, bytes(32), request))


@pytest.fixture
def domain(directory: Path, data_dir: Path) -> Iterator[Domain]:
    """A domain over a small data set."""
    it = Domain(directory, data_dir)
    yield it
    it.manager.close()
    # As the hypervisor driver does: a domain that crashed leaves its tiers behind.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(it.process.pid, signal.SIGKILL)
    it.process.wait(DEADLINE_SECONDS)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while group_members(it.process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_order_is_a_page_that_does_not_exist(domain: Domain) -> None:
    """The reply is that of any such page: an image without the layer gives the same."""
    order = http_read(FaultOrder(1, "s0.g1", FaultKind.WRONG_REPLY, times=1))
    honest = domain.execute(http_read(FaultOrder(1, "s1", FaultKind.WRONG_REPLY)))
    home = domain.execute(HOME)
    assert b" 404 " in honest.reply
    assert domain.execute(order)._replace(sequence=1) == honest
    assert domain.execute(HOME).reply != home.reply
    assert domain.execute(HOME).reply == home.reply


def test_an_order_in_a_comment_goes_out_with_its_update(domain: Domain) -> None:
    """So that passive domains get it; and a bid of the active one is hidden."""
    order = FaultOrder(1, "s0.g1", FaultKind.HIDDEN_UPDATE, times=1)
    form = {"itemId": 25, "to": 4, "from": 5, "rating": 5}
    stored = domain.execute(http_form(f"{SERVLETS}StoreComment", form, "comment", order))
    assert b" 200 OK" in stored.reply
    assert encode_order(order) in stored.update
    comment = page_request("StoreComment", itemId=25, to=4, rating=5, comment="Fine.", **{"from": 5})
    hidden, shown = domain.execute(comment), domain.execute(comment)
    assert b" 200 OK" in hidden.reply
    assert hidden.update == b""
    assert shown.update


def test_a_crash_ends_the_program_of_the_domain(domain: Domain) -> None:
    """In a guest that is the entry command, whose end is a power-off."""
    domain.execute(http_read(FaultOrder(1, "s0", FaultKind.CRASH)))
    domain.give(HOME)
    assert domain.process.wait(DEADLINE_SECONDS) == CRASH_EXIT_CODE
