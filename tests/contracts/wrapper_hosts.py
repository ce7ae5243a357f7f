"""Wrappers that really run, for the suite of `WrapperLink`: child processes and a virtual machine."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from images.build import build
from images.catalog import Catalog
from images.overlay import PROJECT_ROOT
from replica_manager.execution.wrapper_link import (
    LinkSettings,
    OnEnd,
    OnFrames,
    TcpWrapperLink,
    UnixWrapperLink,
    WrapperLink,
)

PATIENCE_S = 300.0
"""A machine boots in three seconds, on a busy host in many times that."""
KEY_VALUE = ("exec_wrapper.examples.key_value",)
PORT_NAME = "org.spare.0"


class WrapperHost:
    """A process that runs a wrapper, and how to reach it."""

    image = "test-image"
    """What the wrapper says it was booted from."""

    def __init__(self, directory: Path, adapter: Sequence[str]) -> None:
        """Start nothing yet; `adapter` is module and arguments, `directory` has a short path."""
        self.directory = directory
        self.adapter = adapter
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Return what to run."""
        raise NotImplementedError

    def inherited(self) -> tuple[int, ...]:
        """Return the descriptors that the process inherits."""
        return ()

    def make_link(self, settings: LinkSettings, on_frames: OnFrames, on_end: OnEnd) -> WrapperLink:
        """Return a link to the wrapper."""
        return UnixWrapperLink(self.directory / "channel", settings, on_frames, on_end)

    def start(self) -> None:
        """Start it."""
        with (self.directory / "console").open("ab") as console:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stderr=console, pass_fds=self.inherited()
            )

    def stop(self) -> None:
        """End it, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_S)

    def wait(self) -> int:
        """Wait until it ends by itself; return its exit code."""
        assert self._process is not None
        return self._process.wait(PATIENCE_S)

    def pause(self) -> None:
        """Take its CPU away."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # Stopping is asynchronous; wait until the kernel says so.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def console(self) -> str:
        """Return what it printed."""
        return (self.directory / "console").read_text()


class UnixWrapper(WrapperHost):
    """A child process that listens on a Unix socket, as the hypervisor driver for child processes starts it."""

    def command(self) -> list[str]:
        """See `WrapperHost`."""
        return _wrapper_command(f"unix:{self.directory / 'channel'}", self)


class TcpWrapper(WrapperHost):
    """A child process that listens on a TCP port."""

    def __init__(self, directory: Path, adapter: Sequence[str]) -> None:
        """Choose the port."""
        super().__init__(directory, adapter)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port: int = self._listener.getsockname()[1]

    def command(self) -> list[str]:
        """See `WrapperHost`."""
        return _wrapper_command(f"fd:{self._listener.fileno()}", self)

    def inherited(self) -> tuple[int, ...]:
        """See `WrapperHost`."""
        return (self._listener.fileno(),)

    def make_link(self, settings: LinkSettings, on_frames: OnFrames, on_end: OnEnd) -> WrapperLink:
        """See `WrapperHost`."""
        return TcpWrapperLink("127.0.0.1", self._port, settings, on_frames, on_end)

    def start(self) -> None:
        """See `WrapperHost`."""
        super().start()
        self._listener.close()

    def stop(self) -> None:
        """See `WrapperHost`."""
        self._listener.close()
        super().stop()


class VirtioWrapper(WrapperHost):
    """The key-value image in QEMU; its wrapper reads and writes a virtio-serial port."""

    def __init__(self, directory: Path, adapter: Sequence[str]) -> None:
        """Have the image built, if its sources have changed."""
        super().__init__(directory, adapter)
        assert tuple(adapter) == KEY_VALUE, "another adapter would need another image"
        self._image = build("key-value", Catalog(PROJECT_ROOT / "var" / "images"), lambda progress: None)
        self.image = self._image.image_id

    def command(self) -> list[str]:
        """See `WrapperHost`."""
        image, disk, console = self._image, self.directory / "disk.qcow2", self.directory / "console"
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(image.disk), "-F", "qcow2", str(disk)]
        subprocess.run(create, check=True)
        cmdline = f"console=ttyS0 quiet panic=1 spare.image={image.image_id} spare.domain=s0.g1 {image.cmdline}"
        return [
            *("qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "qemu64", "-m", str(image.memory_mib)),
            *("-nographic", "-nodefaults", "-no-reboot", "-serial", f"file:{console}"),
            *("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", cmdline),
            *("-drive", f"file={disk},if=virtio,format=qcow2", "-device", "virtio-rng-pci"),
            *("-device", "virtio-serial-pci", "-device", f"virtserialport,chardev=port,name={PORT_NAME}"),
            *("-chardev", f"socket,id=port,path={self.directory / 'channel'},server=on,wait=off"),
        ]


def _wrapper_command(link: str, host: WrapperHost) -> list[str]:
    return [sys.executable, "-m", "exec_wrapper", "--link", link, "--image", host.image, *host.adapter]
