"""The smallest guest there is: an initial file system with one hand-made program, built without a compiler.

It needs nothing but a kernel, so that "can this host run a guest?" is answered before any image was looked into.
The program is x86-64 machine code in a static ELF file of less than 300 bytes.
"""

import struct
from typing import Final

PROBE_MARK: Final = b"spare-guest-ran"
"""What the guest prints on its console as soon as a program of its own runs."""

_LOAD_ADDRESS: Final = 0x400000
_ELF_HEADER_BYTES: Final = 64
_PROGRAM_HEADER_BYTES: Final = 56
_CODE_ADDRESS: Final = _LOAD_ADDRESS + _ELF_HEADER_BYTES + _PROGRAM_HEADER_BYTES

_SYS_WRITE: Final = 1
_SYS_NANOSLEEP: Final = 35
_SYS_REBOOT: Final = 169
_REBOOT_MAGIC: Final = (0xFEE1DEAD, 0x28121969, 0x01234567)
"""`LINUX_REBOOT_MAGIC1`, `LINUX_REBOOT_MAGIC2`, `LINUX_REBOOT_CMD_RESTART`.  Source: reboot(2)."""


def stopping_guest() -> bytes:
    """Return an initial file system that prints `PROBE_MARK` and restarts (QEMU's `-no-reboot` ends there)."""
    magic1, magic2, command = _REBOOT_MAGIC
    code = (
        _print_mark()
        + b"\xbf"
        + struct.pack("<I", magic1)  # mov edi, magic1
        + b"\xbe"
        + struct.pack("<I", magic2)  # mov esi, magic2
        + b"\xba"
        + struct.pack("<I", command)  # mov edx, command
        + _system_call(_SYS_REBOOT)
        + b"\xeb\xfe"  # jmp here
    )
    return initial_file_system(_elf(_with_mark(code)))


def busy_guest() -> bytes:
    """Return an initial file system that prints `PROBE_MARK` and then works for ever, with rests of 5 ms."""
    work = b"\xb9" + struct.pack("<I", 200_000) + b"\xff\xc9\x75\xfc"  # mov ecx, n; dec ecx; jnz -4
    rest = (
        b"\x6a\x00"  # push 0, which becomes nanoseconds
        b"\x48\xc7\x04\x24" + struct.pack("<I", 5_000_000) + b"\x6a\x00"  # mov [rsp], 5 ms; push 0 s
        b"\x48\x89\xe7"  # mov rdi, rsp
        b"\x31\xf6"  # xor esi, esi
         + _system_call(_SYS_NANOSLEEP) + b"\x48\x83\xc4\x10"  # add rsp, 16
    )
    body = work + rest
    code = _print_mark() + body + b"\xe9" + struct.pack("<i", -len(body) - 5)  # jmp to `work`
    return initial_file_system(_elf(_with_mark(code)))


def initial_file_system(init: bytes) -> bytes:
    """Return a cpio archive (`newc`) with `/init` and `/dev/console`.

    Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
    """
    return b"".join(
        (
            _entry(1, "dev", 0o040755, b""),
            _entry(2, "dev/console", 0o020600, b"", device=(5, 1)),
            _entry(3, "init", 0o100755, init),
            _entry(0, "TRAILER!!!", 0, b""),
        )
    )


def _entry(inode: int, name: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)) -> bytes:
    fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name) + 1, 0)
    header = b"070701" + b"".join(b"%08X" % value for value in fields)
    return _padded(header + name.encode() + b"\0") + _padded(content)


def _padded(block: bytes) -> bytes:
    return block + bytes(-len(block) % 4)


def _system_call(number: int) -> bytes:
    return b"\xb8" + struct.pack("<I", number) + b"\x0f\x05"  # mov eax, number; syscall


def _print_mark() -> bytes:
    """Write the mark, whose address `_with_mark` puts into rbx, to standard output."""
    length = len(PROBE_MARK) + 1
    return (
        b"\xbf\x01\x00\x00\x00"  # mov edi, 1
        b"\x48\x89\xde"  # mov rsi, rbx
        b"\xba"
        + struct.pack("<I", length)  # mov edx, length
        + _system_call(_SYS_WRITE)
    )


def _with_mark(code: bytes) -> bytes:
    """Put the mark behind `code` and its address into rbx before it."""
    address = _CODE_ADDRESS + 5 + len(code)
    return b"\xbb" + struct.pack("<I", address) + code + PROBE_MARK + b"\n"  # mov ebx, address


def _elf(code: bytes) -> bytes:
    """Return a static ELF executable whose one segment is the file itself."""
    size = _ELF_HEADER_BYTES + _PROGRAM_HEADER_BYTES + len(code)
    identification = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    header = identification + struct.pack(
        "<HHIQQQIHHHHHH",
        *(2, 0x3E, 1, _CODE_ADDRESS, _ELF_HEADER_BYTES, 0, 0, _ELF_HEADER_BYTES, _PROGRAM_HEADER_BYTES, 1, 0, 0, 0),
    )
    read_execute = 5
    segment = struct.pack("<IIQQQQQQ", 1, read_execute, 0, _LOAD_ADDRESS, _LOAD_ADDRESS, size, size, 0x1000)
    return header + segment + code
