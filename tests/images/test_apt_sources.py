"""Images come from the mirrors that the machine's own apt uses."""

from pathlib import Path

import pytest

from images.apt_sources import AptSource, parse_index_targets, select_sources

MAIN = AptSource("http://mirror.example/debian/", "bookworm", "main", None)
UPDATES = AptSource("http://mirror.example/debian/", "bookworm-updates", "main", None)
SECURITY = AptSource("http://mirror.example/debian-security/", "bookworm-security", "main", None)


def _target(source: AptSource, origin: str = "Debian", entry: str = "/nowhere:1") -> str:
    return f"{source.uri}|{source.suite}|{source.component}|{origin}|{entry}\n"


def test_each_index_counts_once() -> None:
    """apt lists it for every architecture."""
    assert list(parse_index_targets(_target(MAIN) * 2 + _target(UPDATES))) == [MAIN, UPDATES]


def test_other_vendors_are_left_out() -> None:
    """Even if they call their suite as Debian does; and so are Debian's other components."""
    text = _target(MAIN, origin="Example Ltd") + "http://mirror.example/debian/|bookworm|non-free|Debian|/x:1\n"

    assert list(parse_index_targets(text)) == []


def test_indexes_that_apt_has_not_fetched_yet_count() -> None:
    """Their origin is not known then; apt leaves the word as it is, or empty."""
    assert list(parse_index_targets(_target(MAIN, origin="$(ORIGIN)"))) == [MAIN]
    assert list(parse_index_targets(_target(MAIN, origin=""))) == [MAIN]


@pytest.mark.parametrize(
    "content",
    [
        "Types: deb\nSigned-By: /usr/share/keyrings/k.gpg\n",
        "deb [arch=amd64 signed-by=/usr/share/keyrings/k.gpg] http://mirror.example bookworm main\n",
    ],
)
def test_the_key_of_a_source_is_the_one_that_apt_was_told(tmp_path: Path, content: str) -> None:
    """In either format of sources; the guest's packages are checked with it."""
    sources = tmp_path / "debian.sources"
    sources.write_text(content)

    [source] = parse_index_targets(_target(MAIN, entry=f"{sources}:1"))

    assert source.keyring == Path("/usr/share/keyrings/k.gpg")
    assert source.as_line() == ("deb [signed-by=/usr/share/keyrings/k.gpg] http://mirror.example/debian/ bookworm main")


def test_a_release_is_taken_with_its_updates() -> None:
    """Security updates too; other releases and backports are not mixed in."""
    other = AptSource("http://mirror.example/debian/", "trixie", "main", None)
    backports = AptSource("http://mirror.example/debian/", "bookworm-backports", "main", None)

    assert select_sources((MAIN, UPDATES, SECURITY, other, backports), "bookworm") == (MAIN, UPDATES, SECURITY)


def test_another_release_is_looked_up_on_the_same_mirrors() -> None:
    """Guests of different releases fail differently; the machine itself need not know them."""
    found = select_sources((MAIN, SECURITY), "trixie")

    assert [source.suite for source in found] == ["trixie", "trixie-security"]
    assert [source.uri for source in found] == [MAIN.uri, SECURITY.uri]


def test_a_machine_without_debian_sources_has_none_to_offer() -> None:
    """The caller turns that into an error with a hint."""
    vendor = AptSource("http://vendor.example/", "stable", "main", None)

    assert select_sources((vendor,), "bookworm") == ()
