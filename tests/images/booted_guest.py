"""An image booted by plain QEMU, without libvirt: a console, a virtio-serial port, nothing else."""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from exec_wrapper.framing import decode_from_wrapper, encode_frame
from exec_wrapper.wire import (
    FRAME_BYTES_MAX,
    FromWrapper,
    Hello,
    NextPart,
    SetPart,
    SetState,
    StatePart,
    StateSet,
    TakeState,
    ToWrapper,
    WrapperHello,
)
from images.catalog import Image

BOOT_TIMEOUT_S = 240.0
"""Three seconds on an idle machine; many times that on a busy one."""
STATE_PART_BYTES_MAX = 65536
STATE_FORMAT = 1


class BootedGuest:
    """A running guest and the manager's end of its port."""

    def __init__(self, image: Image, directory: Path, domain: str) -> None:
        """Start the machine of `domain`; files go to `directory`, whose path is short."""
        self._console = directory / "console"
        self._socket_path = directory / "port"
        self._decoder = decode_from_wrapper(FRAME_BYTES_MAX)
        self._received: list[FromWrapper] = []
        overlay = directory / "disk.qcow2"
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(image.disk), "-F", "qcow2", str(overlay)]
        subprocess.run(create, check=True)
        self._process = subprocess.Popen(
            _qemu_command(image, domain, overlay, self._console, self._socket_path), stdin=subprocess.DEVNULL
        )
        self._port = socket.socket(socket.AF_UNIX)
        self._port.settimeout(BOOT_TIMEOUT_S)

    def connect(self) -> WrapperHello:
        """Say hello; return the wrapper's answer, which comes when the service is up."""
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while not self._socket_path.exists():
            assert time.monotonic() < deadline, "QEMU opened no port"
            time.sleep(0.05)
        self._port.connect(str(self._socket_path))
        epoch = os.urandom(16)
        answer = self.ask(Hello(epoch, FRAME_BYTES_MAX, STATE_PART_BYTES_MAX))
        assert isinstance(answer, WrapperHello), answer
        assert answer.epoch == epoch
        return answer

    def ask(self, message: ToWrapper) -> FromWrapper:
        """Send a message and return the next one that comes."""
        self.say(message)
        while not self._received:
            try:
                data = self._port.recv(65536)
            except TimeoutError:
                data = b""
            assert data, f"the guest does not answer; its console:\n{self.console()}"
            self._received += self._decoder.feed(data)
        return self._received.pop(0)

    def take_state(self, previous: int, point: int) -> list[bytes]:
        """Return the parts of the service's state as of everything before `point`."""
        self.say(TakeState(previous, point, STATE_FORMAT))
        parts: list[bytes] = []
        is_complete = False
        while not is_complete:
            part = self.ask(NextPart(1))
            assert isinstance(part, StatePart), part
            assert (part.point, part.index) == (point, len(parts))
            parts.append(part.data)
            is_complete = part.is_last
        return parts

    def set_state(self, point: int, parts: Sequence[bytes]) -> None:
        """Replace the service's state."""
        self.say(SetState(point, STATE_FORMAT))
        for index, part in enumerate(parts[:-1]):
            self.say(SetPart(index, False, part))
        answer = self.ask(SetPart(len(parts) - 1, True, parts[-1]))
        assert answer == StateSet(point)

    def say(self, message: ToWrapper) -> None:
        """Send a message."""
        self._port.sendall(encode_frame(message))

    def console(self) -> str:
        """Return what the guest has printed so far."""
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    def wait_for_console(self, text: str) -> None:
        """Wait until the guest has printed `text`."""
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while text not in self.console():
            assert time.monotonic() < deadline, f"no {text!r} on the console:\n{self.console()}"
            time.sleep(0.1)

    def wait_for_power_off(self) -> int:
        """Wait until the machine is off; return QEMU's exit code."""
        return self._process.wait(BOOT_TIMEOUT_S)

    def close(self) -> None:
        """End the machine, whatever it does."""
        self._port.close()
        self._process.kill()
        self._process.wait()


@contextmanager
def booted(image: Image, domain: str = "s0.g1") -> Iterator[BootedGuest]:
    """Boot `image` as `domain`; the machine and its files are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="spare-guest-") as directory:
        guest = BootedGuest(image, Path(directory), domain)
        try:
            yield guest
        finally:
            guest.close()


def _qemu_command(image: Image, domain: str, disk: Path, console: Path, port: Path) -> list[str]:
    cmdline = f"console=ttyS0 quiet panic=1 net.ifnames=0 spare.image={image.image_id} spare.domain={domain}"
    return [
        *("qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "qemu64", "-m", str(image.memory_mib)),
        *("-nographic", "-nodefaults", "-no-reboot", "-serial", f"file:{console}"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", f"{cmdline} {image.cmdline}"),
        *("-drive", f"file={disk},if=virtio,format=qcow2"),
        *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
        *("-chardev", f"socket,id=port,path={port},server=on,wait=off"),
        *("-device", "virtserialport,chardev=port,name=org.spare.0"),
    ]
