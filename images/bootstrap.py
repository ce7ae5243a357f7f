"""Root file systems and kernels out of Debian packages, by mmdebstrap.

Three archives: the kernel package unpacked, the packages of the guest installed, and the latter with the overlay and
the recipe's steps applied.  The first two are layers that several images share.
"""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from images.apt_sources import proxy_options, sources_for
from images.child_process import run
from images.overlay import BUILD_SCRIPT, GUEST_ROOT
from images.progress import ProgressLog

LAYER_FORMAT: Final = 1
"""Counts up whenever the same packages give another layer."""
_EXCLUDED_PATHS: Final = (
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
)
_PASSED_ON: Final = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_CLEAN_ENVIRONMENT: Final = (
    "env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    " HOME=/root LC_ALL=C.UTF-8 PYTHONHASHSEED=0 SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH"
)
_BASE_HOOK: Final = (
    # The standard library's bytecode names the times of its sources, which are cut to the image's date: Python would
    # compile all of it again at every start.
    'if [ -x "$1/usr/bin/python3" ]; then'
    f' {_CLEAN_ENVIRONMENT} chroot "$1" python3 -m compileall -q -f --invalidation-mode unchecked-hash'
    " /usr/lib/python3* > /dev/null; fi"
)
_STRIP_HOOK: Final = (
    # Nothing of the building machine stays: its name, its resolver, its mirrors; nor logs and caches.
    'cd "$1" && rm -rf etc/apt etc/resolv.conf etc/passwd- etc/group- etc/shadow- etc/gshadow- etc/.pwd.lock'
    " etc/machine-id etc/dpkg/dpkg.cfg.d/99mmdebstrap"
    " var/lib/apt var/lib/dpkg/*-old var/cache/debconf var/cache/apt var/cache/ldconfig"
    " && find var/log -type f -delete && find var/tmp run tmp -mindepth 1 -delete"
)


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where and with what a build works."""

    directory: Path
    """Temporary; removed at the end."""
    log: Path
    source_date_epoch: int
    progress: ProgressLog

    def environment(self) -> Mapping[str, str]:
        """Return the environment of mmdebstrap."""
        proxies = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
            "PYTHONHASHSEED": "0",
            "SOURCE_DATE_EPOCH": str(self.source_date_epoch),
            "TMPDIR": str(self.directory),
            **proxies,
        }


def bootstrap_kernel(release: str, package: str, target: Path, workshop: Workshop) -> None:
    """Unpack a kernel package, without installing it, into the archive `target`.

    Raises:
        BuildFailed: mmdebstrap failed.
        DiskFull: no space left.
    """
    _mmdebstrap(["--variant=extract", f"--include={package}"], release, target, workshop)


def bootstrap_base(release: str, packages: tuple[str, ...], target: Path, workshop: Workshop) -> None:
    """Install packages, with what they depend on, into the archive `target`.

    Raises:
        BuildFailed: mmdebstrap failed.
        DiskFull: no space left.
    """
    options = ["--variant=essential", f"--include={','.join(packages)}"]
    # What a crash in the middle would break is thrown away anyway; without it dpkg waits for the disk most of the time.
    options.append("--dpkgopt=force-unsafe-io")
    options += [f"--dpkgopt=path-exclude={pattern}" for pattern in _EXCLUDED_PATHS]
    _mmdebstrap([*options, f"--customize-hook={_BASE_HOOK}"], release, target, workshop)


def assemble_rootfs(base: Path, overlay: Path, target: Path, workshop: Workshop) -> None:
    """Lay `overlay` over `base`, run the recipe's steps there, and pack the result as `target`.

    Raises:
        BuildFailed: a step failed.
        DiskFull: no space left.
    """
    command = [
        *("mmdebstrap", "--format=tar", "--variant=custom", "--skip=setup,update,cleanup"),
        f"--setup-hook={_unpack(base)}",
        f"--customize-hook={_unpack(overlay)}",
        f'--customize-hook={_CLEAN_ENVIRONMENT} chroot "$1" {BUILD_SCRIPT}',
        f'--customize-hook=rm -rf "$1{GUEST_ROOT}/build"',
        f"--customize-hook={_STRIP_HOOK}",
        *("", str(target)),
    ]
    run(command, workshop.progress, workshop.log, workshop.environment())


def _unpack(archive: Path) -> str:
    """Return a hook that unpacks an archive over the root file system.

    mmdebstrap's own `tar-in` goes through a protocol of 4 KiB pieces, and fails now and then: tar ends at the end mark,
    and the helper is killed by SIGPIPE when it passes on the zeros behind it ("special hook failed with exit code 13").
    """
    return f'tar --extract --directory "$1" --numeric-owner --file {shlex.quote(str(archive))}'


def _mmdebstrap(options: list[str], release: str, target: Path, workshop: Workshop) -> None:
    sources = [source.as_line() for source in sources_for(release)]
    proxies = [f"--aptopt={option}" for option in proxy_options()]
    command = ["mmdebstrap", "--format=tar", *options, *proxies, release, str(target), *sources]
    run(command, workshop.progress, workshop.log, workshop.environment())
