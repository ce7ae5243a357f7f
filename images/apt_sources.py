"""Which mirrors and keys this machine's own apt uses; images are built from the same ones.

apt itself is asked, so that every way of writing sources, proxies and mirror lists works.
"""

import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from images.errors import BuildFailed, BuildToolMissing

_FIELDS: Final = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)|$(SOURCESENTRY)"
_COMPONENT: Final = "main"
DEBIAN_RELEASES: Final = ("bullseye", "bookworm", "trixie")
"""Those that images are built of and on."""
_SIGNED_BY: Final = re.compile(r"signed-by\s*[:=]\s*(/[^\s\],]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AptSource:
    """One index that apt is configured to fetch."""

    uri: str
    suite: str
    component: str
    keyring: Path | None
    """The key that apt accepts for it; `None`: any key that apt trusts."""

    def as_line(self) -> str:
        """Return the source in the one-line format of sources.list(5)."""
        options = f"[signed-by={self.keyring}] " if self.keyring is not None else ""
        return f"deb {options}{self.uri} {self.suite} {self.component}"


def sources_for(release: str) -> tuple[AptSource, ...]:
    """Return the sources of a Debian release, its updates and security updates.

    A release that apt is not configured for is looked up on the mirrors of the one that it is configured for.

    Args:
        release: code name, such as `bookworm`.

    Raises:
        BuildToolMissing: there is no apt on this machine.
        BuildFailed: its apt has no source of any Debian release.
    """
    configured = tuple(
        parse_index_targets(_ask("apt-get", "indextargets", "--format", _FIELDS, "Identifier: Packages"))
    )
    found = select_sources(configured, release)
    if not found:
        raise BuildFailed(
            f"apt on this machine has no source for Debian {release}.",
            "Add one to /etc/apt/sources.list.d and run apt-get update.",
        )
    return found


def select_sources(configured: Iterable[AptSource], release: str) -> tuple[AptSource, ...]:
    """Return those of `configured` that belong to `release`, or else the same mirrors' sources for `release`."""
    candidates = [source for source in configured if _base_suite(source.suite) in DEBIAN_RELEASES]
    found = tuple(source for source in candidates if _base_suite(source.suite) == release)
    if found or not candidates:
        return found
    own = _base_suite(candidates[0].suite)
    same_mirrors = (source for source in candidates if _base_suite(source.suite) == own)
    return tuple(replace(source, suite=source.suite.replace(own, release)) for source in same_mirrors)


def parse_index_targets(text: str) -> Iterable[AptSource]:
    """Read what `apt-get indextargets` prints in the format of this module; sources of other vendors are left out.

    The same index is listed once for each architecture.
    """
    seen = set()
    for line in text.splitlines():
        uri, suite, component, origin, entry = line.split("|")
        # apt leaves the word as it is while it has not fetched the index yet.
        if component != _COMPONENT or origin not in ("Debian", "", "$(ORIGIN)"):
            continue
        source = AptSource(uri, suite, component, _keyring_of(entry))
        if source not in seen:
            seen.add(source)
            yield source


def proxy_options() -> tuple[str, ...]:
    """Return the proxy settings of this machine's apt, as lines of apt.conf(5)."""
    # A scheme's settings only; the rest of the machine's configuration is about the machine.
    text = _ask("apt-config", "dump", "Acquire::http::Proxy", "Acquire::https::Proxy")
    return tuple(line for line in text.splitlines() if re.match(r'Acquire::https?::Proxy\S* ".+";', line))


def _base_suite(suite: str) -> str:
    return re.sub(r"[-/](updates|security)$", "", suite)


def _keyring_of(sources_entry: str) -> Path | None:
    """Return the first key file named in the file of a source: `FILE:NUMBER` as apt gives it."""
    path = Path(sources_entry.rpartition(":")[0])
    if not path.is_file():
        return None
    match = _SIGNED_BY.search(path.read_text(encoding="utf-8", errors="replace"))
    return Path(match[1]) if match else None


def _ask(*command: str) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=60)
    except FileNotFoundError as error:
        raise BuildToolMissing(f"{command[0]} is missing.", "Images are built on Debian.") from error
    except subprocess.CalledProcessError as error:
        raise BuildFailed(f"{command[0]} failed: {error.stderr.strip()}", "Check /etc/apt.") from error
    return result.stdout
