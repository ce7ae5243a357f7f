"""What the replicas of a cell have in common: what one defect, or one accident, takes from all of them at once.

Pure: the manifests of images and the disks behind directories come as values.
The score is explained in `docs/operations.md`, "How diverse a cell is".
Source: SPARE §4.6.2 (heterogeneous replicas).
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from replica_manager.config import Config, ServerSection, WitnessSection

OTHER_VERSION_SHARE: Final = 0.5
"""How much of a common package another version of it counts: many a defect is in several versions of a program."""

_EPOCH: Final = re.compile(r"^[0-9]+:")
_REPACKED: Final = re.compile(r"[+~](dfsg|ds|deb[0-9]+u).*$")
_NUMBERS: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
_TIME_64: Final = "t64"
"""Ending of Debian 13's names of libraries that were built again for 64-bit times."""


class Verdict(StrEnum):
    """What is known of one thing that replicas may have in common."""

    INDEPENDENT = "independent"
    PARTLY_SHARED = "partly shared"
    SHARED = "shared"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Software:
    """What the domains of one server run."""

    image: str
    """`NAME-DIGEST`."""
    packages: Mapping[str, str]
    """Version by name: Debian packages, Python libraries as `python3-NAME`, the kernel, this project's own packages."""


@dataclass(frozen=True, slots=True)
class CommonPackage:
    """A package that every server has."""

    name: str
    """As in the image of the first server."""
    versions: tuple[str, ...]
    """Of its makers, without what Debian adds; by server, or one if that is in every server."""


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that replicas may have in common."""

    name: str
    verdict: Verdict
    score: int
    """0: one cause reaches every replica, or nobody can say; 100: none does."""
    detail: str
    """A sentence for an operator."""


@dataclass(frozen=True, slots=True)
class Diversity:
    """What is known of a whole cell."""

    score: int
    """Mean of the parts' scores."""
    parts: tuple[Part, ...]
    images: Mapping[int, str | None]
    """By server; `None`: this machine does not know it."""
    same: tuple[CommonPackage, ...]
    """Packages that every server has in one version."""
    other_versions: tuple[CommonPackage, ...]
    """Packages that every server has, in different versions."""


def assess(config: Config, software: Mapping[int, Software | None], disk_of: Callable[[str], Hashable]) -> Diversity:
    """Return how diverse the cell of the complete and correct configuration `config` is.

    Args:
        config: complete configuration without errors.
        software: what each server's domains run; `None` where this machine cannot know.
        disk_of: says which disk of this machine holds a directory.
    """
    same, other_versions = _common_packages([each for each in software.values() if each is not None])
    parts = (
        _judge_software(config, software, same, other_versions),
        _judge_places(config, "hosts", "host"),
        _judge_places(config, "racks", "rack"),
        _judge_storage(config, disk_of),
    )
    score = round(sum(part.score for part in parts) / len(parts))
    images = {server: each.image if each is not None else None for server, each in software.items()}
    return Diversity(score, parts, images, same, other_versions)


# -- software ------------------------------------------------------------------------------------------------------


def _judge_software(
    config: Config,
    software: Mapping[int, Software | None],
    same: Sequence[CommonPackage],
    other_versions: Sequence[CommonPackage],
) -> Part:
    name = "software"
    if config.hypervisor.driver == "subprocess":
        return Part(name, Verdict.SHARED, 0, "every server runs the same command on the software of its host")
    known = [each for each in software.values() if each is not None]
    missing = [f"server {server}" for server, each in software.items() if each is None]
    if missing:
        return Part(name, Verdict.UNKNOWN, 0, f"this machine has no image of {', '.join(missing)}")
    if len({each.image for each in known}) == 1:
        return Part(name, Verdict.SHARED, 0, f"every server boots {known[0].image}")
    smallest = min(len(_families(each)) for each in known)
    common = len(same) + OTHER_VERSION_SHARE * len(other_versions)
    detail = (
        f"of {smallest} packages {len(same)} are in every server in the same version, "
        f"{len(other_versions)} in another one"
    )
    score = round(100 * (1 - common / smallest)) if smallest else 0
    return Part(name, Verdict.PARTLY_SHARED if common else Verdict.INDEPENDENT, score, detail)


def _common_packages(
    software: Sequence[Software],
) -> tuple[tuple[CommonPackage, ...], tuple[CommonPackage, ...]]:
    """Return what all have in the same version, and in other versions, by name."""
    if not software:
        return (), ()
    families = [_families(each) for each in software]
    same, other_versions = [], []
    for family in sorted(set(families[0]).intersection(*families[1:])):
        versions = [set(each[family].values()) for each in families]
        name = min(families[0][family])
        shared = set.intersection(*versions)
        if shared:
            same.append(CommonPackage(name, (min(shared),)))
        else:
            other_versions.append(CommonPackage(name, tuple(min(each) for each in versions)))
    return tuple(same), tuple(other_versions)


def _families(software: Software) -> Mapping[str, Mapping[str, str]]:
    """Return the upstream versions by package name, by what the package is called in every release."""
    families: dict[str, dict[str, str]] = {}
    for name, version in software.packages.items():
        families.setdefault(family_of(name), {})[name] = upstream_version(version)
    return families


def family_of(package: str) -> str:
    """Return a package's name without the numbers in it: `libicu72` and `libicu76` are one program."""
    words = _NUMBERS.sub("", package.removesuffix(_TIME_64)).split("-")
    return "-".join(word for word in words if word)


def upstream_version(version: str) -> str:
    """Return the version that the makers of a program gave it, without what Debian adds.  Source: deb-version(7)."""
    without_revision = _EPOCH.sub("", version).rpartition("-")
    return _REPACKED.sub("", without_revision[0] or without_revision[2])


# -- places --------------------------------------------------------------------------------------------------------


def _judge_places(config: Config, name: str, key: str) -> Part:
    """Judge where members are: a cell outlives the loss of `f` of them, servers or witnesses."""
    members: list[tuple[str, ServerSection | WitnessSection]] = [
        *((f"server {server.id}", server) for server in config.server),
        *((f"witness {witness.id}", witness) for witness in config.witness),
    ]
    if config.cell.kind == "one-machine":
        return Part(name, Verdict.SHARED, 0, "every member is on this machine")
    places = Counter(value for _, member in members if (value := getattr(member, key)))
    silent = [label for label, member in members if not getattr(member, key)]
    return _judge_counts(name, places.values(), silent, f"`{key}`", config.cell.f)


def _judge_storage(config: Config, disk_of: Callable[[str], Hashable]) -> Part:
    """Judge the disks under the servers' domains; those of another host are only known to be of that host."""
    name = "storage"
    if config.cell.kind == "one-machine":
        disks = Counter(disk for server in config.server for disk in {disk_of(each) for each in server.storage})
        return _judge_counts(name, disks.values(), (), "disk", config.cell.f)
    hosts = Counter(server.host for server in config.server if server.host)
    silent = [f"server {server.id}" for server in config.server if not server.host]
    part = _judge_counts(name, hosts.values(), silent, "`host`", config.cell.f)
    if part.verdict is not Verdict.INDEPENDENT:
        return part
    return Part(name, part.verdict, part.score, "each host has its own disks, unless they come from a network")


def _judge_counts(name: str, counts: Collection[int], silent: Iterable[str], key: str, faults: int) -> Part:
    """Judge by how many are at each place: if they are more than the cell can lose, they fail together."""
    most = max(counts, default=0)
    if most > faults:
        return Part(name, Verdict.SHARED, 0, f"{most} have the same {key}, and the cell can lose {faults}")
    if unknown := ", ".join(silent):
        return Part(name, Verdict.UNKNOWN, 0, f"{unknown}: no {key} in the configuration")
    return Part(name, Verdict.INDEPENDENT, 100, f"{len(counts)} places, none with more than {faults}")
