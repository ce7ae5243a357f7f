"""What every report says about where it was made."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent


def environment() -> dict[str, Any]:
    """Return commit, command and the state of the machine right now."""
    return {
        "commit": commit(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "load_average": list(os.getloadavg()),
        "cpu_count": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "steal_percent": steal_percent(),
    }


def commit() -> str:
    """Return the commit of the checkout, with `+` if files differ from it; `unknown` outside of one."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=PROJECT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def steal_percent() -> float:
    """Return the share of CPU time that the machine did not get since its boot.  Source: proc(5), /proc/stat."""
    fields = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return round(100 * fields[7] / max(1, sum(fields)), 2)


def is_on_real_disk(path: Path) -> bool:
    """Whether `path` is on a file system that survives a power cut.  Source: proc(5), /proc/mounts."""
    best = ("", "")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split()
        if str(path.resolve()).startswith(mount) and len(mount) > len(best[0]):
            best = (mount, kind)
    return best[1] not in {"tmpfs", "ramfs", "devtmpfs"}
