"""What a cell could leave behind on a machine: seen before and after, the two must be equal."""

import json
import re
import subprocess
from pathlib import Path

TRACES = ("processes", "namespaces", "links", "nftables", "mounts", "loop_devices")
PLACE_OF_CELL = re.compile(r"spare-(.+)-(?:switch|clients|[sw][0-9]+)$")
"""Names of the namespaces of a cell, and of their mounts."""


def machine_traces(mark: str, cell: str) -> dict[str, list[str]]:
    """Return what is there; without the namespaces of other cells, which come and go as they like.

    Args:
        mark: a text in the command line of every process that counts, such as the cell's directory.
        cell: the cell's name.
    """
    found = _everything(mark)
    return {kind: [line for line in lines if _may_be_of(cell, line)] for kind, lines in found.items()}


def _may_be_of(cell: str, line: str) -> bool:
    place = PLACE_OF_CELL.search(line)
    return place is None or place[1] == cell


def _everything(mark: str) -> dict[str, list[str]]:
    return {
        "processes": _processes(mark),
        "namespaces": sorted(path.name for path in Path("/run/netns").glob("*")),
        "links": sorted(row["ifname"] for row in json.loads(_run("ip", "-json", "link") or "[]")),
        "nftables": sorted(_run("nft", "list", "tables").splitlines()),
        "mounts": sorted(line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()),
        "loop_devices": sorted(_run("losetup", "--noheadings", "--output", "NAME").split()),
    }


def left_behind(before: dict[str, list[str]], after: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return what is there after and was not before, by kind; empty: nothing."""
    found = {kind: sorted(set(after[kind]) - set(before[kind])) for kind in TRACES}
    return {kind: names for kind, names in found.items() if names}


def _processes(mark: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if mark in command:
            found.append(command[:200])
    return sorted(found)


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
