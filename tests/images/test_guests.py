"""Real guests: the images boot, and their wrappers answer."""

import fnmatch
import hashlib
import struct
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from exec_wrapper.examples.key_value_commands import encode_get, encode_set
from exec_wrapper.wire import Execute, Executed, Ping, Pong, WrapperHello
from images.build import build
from images.catalog import Catalog, Image
from images.fault_orders import FaultKind, FaultOrder, encode_order, http_form, http_read, key_value_read
from images.recipe import RECIPES
from images.recipes.fault_injection.treacherous.service_faults import CRASH_EXIT_CODE
from tests.images.booted_guest import BootedGuest, booted
from tests.images.conftest import link_layers

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(1500)]

SEED = bytes(32)
START_US = 1_700_000_000_000_000
"""When the data set of `rubis-mariadb` begins."""
TRIPLE = "'''"
SERVLET = "/rubis_servlets/servlet/edu.rice.rubis.servlets."


def _execute(guest: BootedGuest, sequence: int, payload: bytes) -> Executed:
    request = Execute(sequence - 1, sequence, START_US + sequence * 1_000_000, SEED, payload)
    answer = guest.ask(request)
    assert isinstance(answer, Executed), answer
    assert answer.sequence == sequence
    return answer


def test_the_key_value_guest_boots_and_serves(key_value_image: Image) -> None:
    """From the kernel to the service: hello with the image's name, requests, replies and updates."""
    with booted(key_value_image) as guest:
        hello = guest.connect()

        assert (hello.service, hello.image, hello.cursor) == ("key-value", key_value_image.image_id, 1)
        assert guest.ask(Ping(7)) == Pong(7)
        assert _execute(guest, 1, encode_set(b"colour", b"blue")).update
        reply = _execute(guest, 2, encode_get(b"colour"))
        assert b"blue" in reply.reply
        assert reply.update == b""


PROBE_ENTRY = """
busybox ip address show lo
echo "host $(busybox hostname), image $SPARE_IMAGE, link $SPARE_LINK"
busybox touch /tmp/t /run/r /dev/shm/s /var/lib/v && echo writable
i=0
while [ $i -lt 20 ]; do
  ( busybox sleep 0.1 & )
  i=$((i + 1))
done
busybox sleep 2
echo "zombies: $(busybox grep -l '^State:.Z' /proc/[0-9]*/status | busybox wc -l)"
exit 3
"""


def test_a_guest_is_what_a_service_expects_and_powers_off_when_it_ends(
    project_catalog: Catalog, key_value_image: Image, tmp_path: Path, sources: Path
) -> None:
    """Loopback up, names set, the usual places writable, orphans collected; its end is a power-off."""
    text = (RECIPES / "key-value.toml").read_text().split("[variant")[0]
    begin, _, after = text.partition("entry = '''")
    (tmp_path / "key-value.toml").write_text(f"{begin}entry = '''{PROBE_ENTRY}'''{after.partition(TRIPLE)[2]}")
    catalog = Catalog(tmp_path / "images")
    link_layers(project_catalog, catalog)
    image = build("key-value", catalog, lambda progress: None, recipes=tmp_path, project_root=sources)

    with booted(image) as guest:
        assert guest.wait_for_power_off() == 0
        console = guest.console()

    assert "127.0.0.1/8" in console
    assert f"host s0.g1, image {image.image_id}, link virtio:org.spare.0" in console
    assert "writable" in console
    assert "zombies: 0" in console
    assert "the entry command ended with exit code 3" in console


def test_a_treacherous_guest_is_honest_until_an_order_names_it(project_catalog: Catalog, sources: Path) -> None:
    """It knows its name from the kernel command line; an order to crash powers it off."""
    image = build("key-value", project_catalog, lambda progress: None, "treacherous", project_root=sources)
    with booted(image) as guest:
        hello = guest.connect()
        _execute(guest, 1, key_value_read(FaultOrder(1, "s0.g2", FaultKind.CRASH)))
        honest = _execute(guest, 2, encode_set(b"colour", b"blue"))
        _execute(guest, 3, key_value_read(FaultOrder(2, "s0.g1", FaultKind.WRONG_UPDATE, times=1)))
        wrong = _execute(guest, 4, encode_set(b"colour", b"blue"))
        right = _execute(guest, 5, encode_get(b"colour")).reply
        _execute(guest, 6, key_value_read(FaultOrder(3, "s0.g1", FaultKind.WRONG_REPLY, first=2, every=3)))
        replies = [_execute(guest, sequence, encode_get(b"colour")).reply for sequence in range(7, 12)]
        _execute(guest, 12, key_value_read(FaultOrder(4, "s0", FaultKind.CRASH)))
        guest.say(Execute(12, 13, START_US + 13_000_000, SEED, encode_get(b"colour")))
        guest.wait_for_power_off()
        console = guest.console()

    assert (hello.service, hello.image) == ("key-value", image.image_id)
    assert wrong.reply == honest.reply
    assert len(wrong.update) == len(honest.update)
    assert wrong.update != honest.update
    assert [reply == right for reply in replies] == [True, False, True, True, False]
    assert sum(a != b for a, b in zip(replies[1], right, strict=True)) == 1
    assert f"the entry command ended with exit code {CRASH_EXIT_CODE}" in console
    assert image.manifest.fault_injection


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: auction.example\r\n\r\n".encode()


def _bid() -> bytes:
    query = "itemId=1000&userId=2&minBid=1&bid=987654.32&maxBid=987655.43&qty=1&maxQty=1"
    return _get(f"{SERVLET}StoreBid?{query}")


def _cents(amount: int) -> bytes:
    """Return a price as row images write it: 64 bits, in cents."""
    return struct.pack(">q", amount)


@dataclass(frozen=True)
class Visit:
    """What the auction site answered, in this order; in the middle it was ordered to give one wrong reply."""

    hello: WrapperHello
    home: Executed
    categories: Executed
    bid: Executed
    missing: Executed
    wrong_categories: Executed
    comment: Executed


ELSEWHERE = FaultOrder(2, "s1.g2", FaultKind.FALSE_APPLIED)
"""Concerns another domain."""


@pytest.fixture(scope="module")
def treacherous_site(project_catalog: Catalog, sources: Path) -> Image:
    """The auction site with a layer around its wrapper that does nothing until it is told to."""
    return build("rubis-mariadb", project_catalog, lambda progress: None, "treacherous", project_root=sources)


@pytest.fixture(scope="module")
def visit(treacherous_site: Image) -> Visit:
    """One boot, for all that is to be seen of it."""
    categories = _get(f"{SERVLET}BrowseCategories")
    comment = {"itemId": 1000, "to": 1, "from": 2, "rating": 5}
    requests = (
        _get("/rubis_servlets/"),
        categories,
        _bid(),
        http_read(FaultOrder(1, "s0.g1", FaultKind.WRONG_REPLY, times=1)),
        categories,
        http_form(f"{SERVLET}StoreComment", comment, "comment", ELSEWHERE),
    )
    with booted(treacherous_site) as guest:
        hello = guest.connect()
        return Visit(hello, *(_execute(guest, sequence, request) for sequence, request in enumerate(requests, 1)))


def test_the_auction_site_boots_with_its_data_set(visit: Visit, treacherous_site: Image) -> None:
    """All three tiers serve from one domain; the database holds what the manifest says."""
    manifest = treacherous_site.manifest
    assert (visit.hello.service, visit.hello.image) == ("rubis", treacherous_site.image_id)
    assert visit.home.reply.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Antiques" in visit.categories.reply
    assert visit.categories.update == b""
    assert b"ERROR" not in visit.bid.reply
    assert visit.bid.update.count(_cents(98765432)) == 2, "in the row of the bid and in that of the item"
    assert manifest.data_set is not None
    assert (manifest.data_set["name"], manifest.data_set["start_time_us"]) == ("tiny", START_US)


def test_a_treacherous_auction_site_is_told_in_a_page_that_does_not_exist(visit: Visit) -> None:
    """And its passive siblings in a comment, whose update carries the order."""
    right, wrong = visit.categories, visit.wrong_categories
    assert visit.missing.reply.startswith(b"HTTP/1.1 404 ")
    assert len(wrong.reply) == len(right.reply)
    assert wrong.reply != right.reply
    assert visit.comment.reply.startswith(b"HTTP/1.1 200 ")
    assert encode_order(ELSEWHERE) in visit.comment.update


def _fingerprints(archive: Path) -> dict[str, tuple[object, ...]]:
    """Return what `archive` says about each of its members, by path."""
    with tarfile.open(archive) as tar:
        return {member.name: _fingerprint(tar, member) for member in tar}


def _fingerprint(tar: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[object, ...]:
    content = tar.extractfile(member) if member.isfile() else None
    digest = hashlib.sha256(content.read()).hexdigest() if content is not None else ""
    return member.mode, member.uid, member.gid, member.mtime, member.linkname, digest


def differing_paths(one: Image, other: Image) -> list[str]:
    """Return the paths in which two builds differ although the manifest does not say so; some do, as it says."""
    patterns = [entry.partition("#")[0].strip() for entry in one.manifest.not_reproducible]
    ours, theirs = _fingerprints(one.rootfs_tar), _fingerprints(other.rootfs_tar)
    differing = {name.removeprefix(".") for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
    assert differing
    return [name for name in differing if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]


def test_two_builds_of_the_auction_site_differ_in_what_the_manifest_says_alone(
    project_catalog: Catalog, sources: Path
) -> None:
    """Plain image and variant are two builds; the variant changes nothing outside of the database either."""
    plain = build("rubis-mariadb", project_catalog, lambda progress: None, project_root=sources)
    variant = build("rubis-mariadb", project_catalog, lambda progress: None, "rounded-bids", project_root=sources)

    assert differing_paths(plain, variant) == []
    assert plain.manifest.data_set == variant.manifest.data_set


def test_the_rounding_variant_differs_in_the_update_alone(project_catalog: Catalog, sources: Path) -> None:
    """The database of a first domain rounds, its Python code is the same: the update that is read back tells."""
    image = build("rubis-mariadb", project_catalog, lambda progress: None, "rounded-bids", project_root=sources)
    with booted(image, "s1.g1") as guest:
        guest.connect()
        bid = _execute(guest, 1, _bid())

    assert b"ERROR" not in bid.reply
    assert bid.update.count(_cents(98765432)) == 1, "in the row of the item alone"
    assert bid.update.count(_cents(98765000)) == 1, "in the row of the bid"
    assert image.manifest.fault_injection
