"""What a cell could leave behind on a machine: seen before and after, the two must be equal."""

import json
import re
import subprocess
from pathlib import Path

TRACES = ("processes", "namespaces", "links", "nftables", "mounts", "loop_devices")
PLACE_OF_CELL = re.compile(r"spare-(.+)-(?:switch|clients|[sw][0-9]+)$")
"""Names of the namespaces of a cell, and of their mounts."""


def machine_traces(mark: str, cell: str) -> dict[str, list[str]]:
    """Return what is there; without what other cells and other programs make and remove meanwhile, as they like.

    Args:
        mark: the cell's directory.  Processes with it in their command line count, and mounts and loop devices of
            files below it.
        cell: the cell's name; mounts on a path with a directory of that name count too.
    """

    def is_own(path: str) -> bool:
        place = PLACE_OF_CELL.search(path)
        return mark in path or cell in Path(path).parts or (place is not None and place[1] == cell)

    return {
        "processes": _processes(mark),
        "namespaces": sorted(path.name for path in Path("/run/netns").glob("*") if _may_be_of(cell, path.name)),
        "links": sorted(row["ifname"] for row in json.loads(_run("ip", "-json", "link") or "[]")),
        "nftables": sorted(_run("nft", "list", "tables").splitlines()),
        "mounts": sorted(point for point in _mount_points() if is_own(point)),
        "loop_devices": sorted(device for device, file in _loop_devices() if is_own(file)),
    }


def _may_be_of(cell: str, name: str) -> bool:
    place = PLACE_OF_CELL.search(name)
    return place is None or place[1] == cell


def _mount_points() -> list[str]:
    return [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]


def _loop_devices() -> list[tuple[str, str]]:
    """Return each with the file behind it."""
    rows = [
        line.split(maxsplit=1) for line in _run("losetup", "--noheadings", "--output", "NAME,BACK-FILE").splitlines()
    ]
    return [(row[0], row[1] if len(row) > 1 else "") for row in rows if row]


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
