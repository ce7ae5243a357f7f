"""Decides whether this host runs guests in hardware (KVM) or by translation (TCG).

`/dev/kvm` alone proves nothing: in some nested environments it opens, creates machines, and then no guest ever runs.
So a host must have the processor flag and must have run a small guest to its end.
"""

import asyncio
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from replica_manager.hypervisor.probe_guest import PROBE_MARK, stopping_guest

Acceleration = Literal["kvm", "qemu"]
"""libvirt's words: hardware, or QEMU's own translation (TCG)."""

PROBE_TIMEOUT_S: Final = 20.0
"""The guest takes about a second in hardware and 3 s translated; the rest is for a busy host."""
_KVM_FLAGS: Final = frozenset({"svm", "vmx"})
_KVM_DEVICE: Final = Path("/dev/kvm")
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
DEFAULT_EMULATOR: Final = "/usr/bin/qemu-system-x86_64"


@dataclass(frozen=True, slots=True)
class AccelerationChoice:
    """What was chosen, and why."""

    acceleration: Acceleration
    reason: str


class AccelerationChooser:
    """Chooses once per boot of the host and remembers it in a file."""

    def __init__(
        self, wanted: Literal["auto", "kvm", "tcg"], cache_file: Path, emulator: str = DEFAULT_EMULATOR
    ) -> None:
        """Prepare; nothing is probed before `choose`.

        Args:
            wanted: The configuration's word; only `auto` probes.
            cache_file: Remembers the outcome until the host boots again.
            emulator: QEMU's program.
        """
        self._wanted = wanted
        self._cache_file = cache_file
        self._emulator = emulator
        self._choice: AccelerationChoice | None = None
        self._choosing = asyncio.Lock()

    async def choose(self, kernel: Path) -> Acceleration:
        """Return how a guest with `kernel` is to be run; the first call of a boot may take `PROBE_TIMEOUT_S`."""
        return (await self.explain(kernel)).acceleration

    async def explain(self, kernel: Path) -> AccelerationChoice:
        """Return the choice with its reason; see `choose`."""
        async with self._choosing:
            if self._choice is None:
                self._choice = await asyncio.to_thread(self._decide, kernel)
        return self._choice

    def _decide(self, kernel: Path) -> AccelerationChoice:
        if self._wanted != "auto":
            return AccelerationChoice("kvm" if self._wanted == "kvm" else "qemu", "the configuration says so")
        if not has_virtualisation(Path("/proc/cpuinfo").read_text()):
            return AccelerationChoice("qemu", "the processor offers neither svm nor vmx")
        if not os.access(_KVM_DEVICE, os.R_OK | os.W_OK):
            return AccelerationChoice("qemu", f"{_KVM_DEVICE} is missing or not permitted")
        remembered = read_choice(self._cache_file, boot_id())
        if remembered is not None:
            return remembered
        choice = _choice_after(boot_probe(kernel, "kvm", self._emulator))
        write_choice(self._cache_file, boot_id(), choice)
        return choice


def has_virtualisation(cpu_info: str) -> bool:
    """Return whether `/proc/cpuinfo` shows a processor that can run guests."""
    flags = (line.partition(":")[2].split() for line in cpu_info.splitlines() if line.startswith("flags"))
    return any(_KVM_FLAGS.intersection(words) for words in flags)


def boot_id() -> str:
    """Return the name of the host's present boot."""
    return _BOOT_ID.read_text().strip()


def boot_probe(
    kernel: Path,
    accelerator: Literal["kvm", "tcg"],
    emulator: str = DEFAULT_EMULATOR,
    timeout_s: float = PROBE_TIMEOUT_S,
) -> str:
    """Boot a small guest and wait until a program in it has run and ended it.  Blocks for up to `timeout_s`.

    Returns:
        An empty string if it did, else why not, in one sentence without its full stop.
    """
    with tempfile.NamedTemporaryFile(suffix=".cpio") as initrd:
        initrd.write(stopping_guest())
        initrd.flush()
        command = _probe_command(kernel, Path(initrd.name), accelerator, emulator)
        try:
            done = subprocess.run(
                command, capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=timeout_s
            )
        except subprocess.TimeoutExpired:
            return f"a small guest did not run to its end in {timeout_s:.0f} s"
        except OSError as error:
            return f"{emulator} cannot be started: {error.strerror}"
    if PROBE_MARK in done.stdout:
        return ""
    words = done.stderr.decode(errors="replace").strip().splitlines()
    return f"a small guest did not run: {words[-1] if words else f'exit status {done.returncode}'}"


def read_choice(cache_file: Path, boot: str) -> AccelerationChoice | None:
    """Return what was remembered in this boot, or `None`."""
    try:
        document = json.loads(cache_file.read_text())
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(document, dict) or document.get("boot") != boot:
        return None
    acceleration, reason = document.get("acceleration"), document.get("reason")
    if acceleration not in ("kvm", "qemu") or not isinstance(reason, str):
        return None
    return AccelerationChoice(acceleration, reason)


def write_choice(cache_file: Path, boot: str, choice: AccelerationChoice) -> None:
    """Remember a choice for the rest of this boot."""
    cache_file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = cache_file.with_name(f".{cache_file.name}.{os.getpid()}")
    unfinished.write_text(json.dumps({"boot": boot, "acceleration": choice.acceleration, "reason": choice.reason}))
    unfinished.rename(cache_file)


def _choice_after(failure: str) -> AccelerationChoice:
    if failure:
        return AccelerationChoice("qemu", f"with KVM {failure}")
    return AccelerationChoice("kvm", "a small guest ran to its end")


def _probe_command(kernel: Path, initrd: Path, accelerator: str, emulator: str) -> list[str]:
    machine = [
        "-accel",
        accelerator,
        "-machine",
        "q35",
        "-cpu",
        "host" if accelerator == "kvm" else "qemu64",
        "-m",
        "128",
    ]
    boot = ["-kernel", str(kernel), "-initrd", str(initrd), "-append", "console=ttyS0 quiet panic=-1", "-no-reboot"]
    return [emulator, *machine, *boot, "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"]
