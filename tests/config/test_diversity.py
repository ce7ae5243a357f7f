"""How much replicas have in common, from the configuration and from what their images hold."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from replica_manager.config import Config
from replica_manager.config_check import load
from replica_manager.diversity import CommonPackage, Diversity, Part, Software, Verdict, assess, family_of
from replica_manager.diversity import upstream_version as upstream

BOOKWORM = Software(
    "site-a-0123", {"libc6": "2.36-9+deb12u13", "libicu72": "72.1-3", "nginx": "1.22.1-9", "adapter": "ab12"}
)
TRIXIE = Software(
    "site-b-4567",
    {"libc6": "2.41-12", "libicu76": "76.1-4", "lighttpd": "1.4.79-2", "adapter": "ab12", "tzdata": "2026a-0+deb13u1"},
)

HOSTS = """\
[cell]
name = "shop"
kind = "hosts"
f = 1
[service]
image = "site"
{server_0}
{server_1}
{witness}
"""


def _member(section: str, number: int, port: int, **labels: str) -> str:
    addresses = {"private_address": f"192.0.2.{port}:7000"}
    if section == "server":
        addresses |= {"public_address": f"192.0.2.{port}:80", "admin_address": f"192.0.2.{port}:81"}
    lines = [f'{key} = "{value}"' for key, value in (addresses | labels).items()]
    return "\n".join((f"[[{section}]]", f"id = {number}", *lines))


def _on_hosts(directory: Path, *labels: Mapping[str, str]) -> Config:
    """Return a cell of two servers and a witness with these labels."""
    first, second, witness = labels
    text = HOSTS.format(
        server_0=_member("server", 0, 1, **first),
        server_1=_member("server", 1, 2, **second),
        witness=_member("witness", 0, 3, **witness),
    )
    (directory / "cell.toml").write_text(text)
    return load(directory / "cell.toml")


def _on_one_machine(directory: Path, more: str = "") -> Config:
    (directory / "cell.toml").write_text(f'[cell]\nname = "shop"\n[service]\nimage = "site"\n{more}')
    return load(directory / "cell.toml")


def _assess(config: Config, *software: Software | None) -> Diversity:
    return assess(config, dict(enumerate(software)), str)


def _part(diversity: Diversity, name: str) -> Part:
    [found] = [part for part in diversity.parts if part.name == name]
    return found


APART = ({"host": "alpha", "rack": "a"}, {"host": "beta", "rack": "b"}, {"host": "gamma", "rack": "c"})


def test_packages_of_the_same_name_count_by_their_versions(tmp_path: Path) -> None:
    """Of the four in the smaller image one is the same and two are in other versions: 1 - (1 + 2 / 2) / 4."""
    diversity = _assess(_on_hosts(tmp_path, *APART), BOOKWORM, TRIXIE)

    assert diversity.same == (CommonPackage("adapter", ("ab12",)),)
    assert diversity.other_versions == (
        CommonPackage("libc6", ("2.36", "2.41")),
        CommonPackage("libicu72", ("72.1", "76.1")),
    )
    assert (_part(diversity, "software").score, _part(diversity, "software").verdict) == (50, Verdict.PARTLY_SHARED)
    assert diversity.images == {0: "site-a-0123", 1: "site-b-4567"}


def test_one_image_is_no_diversity_and_two_without_a_package_in_common_are_all(tmp_path: Path) -> None:
    """The ends of the scale."""
    config = _on_hosts(tmp_path, *APART)
    assert _part(_assess(config, BOOKWORM, BOOKWORM), "software").score == 0
    assert _part(_assess(config, BOOKWORM, BOOKWORM), "software").verdict is Verdict.SHARED
    other = Software("other-89ab", {"musl": "1.2.5-3"})
    assert _part(_assess(config, BOOKWORM, other), "software") == Part(
        "software",
        Verdict.INDEPENDENT,
        100,
        "of 1 packages 0 are in every server in the same version, 0 in another one",
    )


def test_a_package_counts_only_if_all_servers_have_it(tmp_path: Path) -> None:
    """A defect of two of three servers is two faults, which f = 2 tolerates."""
    servers = "".join(f"[[server]]\nid = {number}\n" for number in range(3))
    (tmp_path / "cell.toml").write_text(f'[cell]\nname = "shop"\nf = 2\n[service]\nimage = "site"\n{servers}')
    third = Software("third-cdef", {"libc6": "2.36-9", "adapter": "ab12"})

    diversity = _assess(load(tmp_path / "cell.toml"), BOOKWORM, BOOKWORM, third)

    assert [package.name for package in diversity.same] == ["adapter", "libc6"]
    assert [package.name for package in _assess(load(tmp_path / "cell.toml"), BOOKWORM, TRIXIE, third).same] == [
        "adapter"
    ]


def test_an_image_that_is_not_here_is_not_guessed(tmp_path: Path) -> None:
    """What nobody can say counts as shared."""
    part = _part(_assess(_on_hosts(tmp_path, *APART), BOOKWORM, None), "software")
    assert (part.score, part.verdict) == (0, Verdict.UNKNOWN)
    assert "server 1" in part.detail


def test_members_apart_in_every_way_have_the_highest_scores(tmp_path: Path) -> None:
    """Hosts, racks and disks; the total is the mean of the four parts."""
    diversity = _assess(_on_hosts(tmp_path, *APART), BOOKWORM, TRIXIE)
    assert {part.name: part.score for part in diversity.parts} == {
        "software": 50,
        "hosts": 100,
        "racks": 100,
        "storage": 100,
    }
    assert diversity.score == 88


def test_a_rack_with_more_members_than_the_cell_can_lose_is_shared(tmp_path: Path) -> None:
    """A witness counts too: with two of three members gone nothing is ordered any more."""
    labels = ({"host": "alpha", "rack": "a"}, {"host": "beta", "rack": "b"}, {"host": "gamma", "rack": "a"})
    part = _part(_assess(_on_hosts(tmp_path, *labels), BOOKWORM, TRIXIE), "racks")
    assert (part.score, part.verdict) == (0, Verdict.SHARED)
    assert "2 have the same `rack`" in part.detail


def test_a_rack_that_is_not_said_is_unknown_unless_the_others_say_enough(tmp_path: Path) -> None:
    """The sentence names who does not say it."""
    labels = ({"host": "alpha", "rack": "a"}, {"host": "beta"}, {"host": "gamma"})
    part = _part(_assess(_on_hosts(tmp_path, *labels), BOOKWORM, TRIXIE), "racks")
    assert (part.score, part.verdict) == (0, Verdict.UNKNOWN)
    assert part.detail == "server 1, witness 0: no `rack` in the configuration"
    labels = ({"host": "alpha", "rack": "a"}, {"host": "beta", "rack": "a"}, {"host": "gamma"})
    assert _part(_assess(_on_hosts(tmp_path, *labels), BOOKWORM, TRIXIE), "racks").verdict is Verdict.SHARED


def test_servers_on_one_host_share_its_disks(tmp_path: Path) -> None:
    """As far as the configuration says."""
    labels = ({"host": "alpha", "rack": "a"}, {"host": "alpha", "rack": "b"}, {"host": "gamma", "rack": "c"})
    diversity = _assess(_on_hosts(tmp_path, *labels), BOOKWORM, TRIXIE)
    assert [_part(diversity, name).verdict for name in ("hosts", "racks", "storage")] == [
        Verdict.SHARED,
        Verdict.INDEPENDENT,
        Verdict.SHARED,
    ]


def test_on_one_machine_only_software_and_disks_can_differ(tmp_path: Path) -> None:
    """Which disk a directory is on, the machine itself says."""
    stores = (
        '[[server]]\nid = 0\nstorage = ["/one/a", "/two/a"]\n[[server]]\nid = 1\nstorage = ["/three/b", "/four/b"]\n'
    )
    config = _on_one_machine(tmp_path, stores)
    software = {0: BOOKWORM, 1: TRIXIE}

    apart = assess(config, software, lambda directory: directory.split("/")[1])
    on_one = assess(config, software, lambda directory: directory.split("/")[1].replace("three", "two"))

    assert [part.score for part in apart.parts] == [50, 0, 0, 100]
    assert [part.score for part in on_one.parts] == [50, 0, 0, 0]
    assert _part(on_one, "storage").detail == "2 have the same disk, and the cell can lose 1"


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("libicu72", "libicu"),
        ("libssl3t64", "libssl"),
        ("python3.13-minimal", "python-minimal"),
        ("libpcre2-8-0", "libpcre"),
        ("gcc-14-base", "gcc-base"),
        ("libc-bin", "libc-bin"),
    ],
)
def test_a_library_is_the_same_program_in_every_release(name: str, family: str) -> None:
    """Debian puts the version of an interface into a package's name."""
    assert family_of(name) == family


@pytest.mark.parametrize(
    ("version", "made"),
    [
        ("2.36-9+deb12u13", "2.36"),
        ("1:1.37.0-6+b9", "1.37.0"),
        ("2.0.40+ds1-1", "2.0.40"),
        ("3.134", "3.134"),
        ("12.4+deb12u11", "12.4"),
        ("8.9p1-ubuntu-3", "8.9p1-ubuntu"),
    ],
)
def test_what_debian_adds_to_a_version_makes_no_other_program(version: str, made: str) -> None:
    """Epoch, revision, and the marks of repacked sources."""
    assert upstream(version) == made
