"""The directory of the embedded driver."""

import os
import stat
from pathlib import Path

import pytest

from replica_manager.hypervisor.embedded_root import (
    QEMU_CONFIGURATION,
    ROOT_PATH_BYTES_MAX,
    keep_capabilities,
    prepare_root,
    reap_probes,
)
from replica_manager.hypervisor.hypervisor import DomainRefused


def test_a_root_is_private_and_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may open the sockets below it controls the machines."""
    monkeypatch.chdir(tmp_path)
    root = Path("hv")
    prepare_root(root, None)
    prepare_root(root, None)
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert (root / "etc/qemu.conf").read_text() == QEMU_CONFIGURATION


def test_a_root_whose_sockets_cannot_be_bound_is_refused() -> None:
    """The sentence says what to change."""
    root = Path("/" + "x" * ROOT_PATH_BYTES_MAX)
    with pytest.raises(DomainRefused, match="shorter runtime_dir"):
        prepare_root(root, None)
    assert not root.exists()


def test_what_one_root_learned_the_next_one_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking QEMU for its capabilities takes seconds; newer knowledge replaces older."""
    monkeypatch.chdir(tmp_path)
    learned = Path("first/cache/qemu/capabilities")
    learned.mkdir(parents=True)
    (learned / "qemu.xml").write_text("new")
    (learned / "unfinished.new").write_text("half")
    keep_capabilities(Path("first"), Path("shared"))
    keep_capabilities(Path("absent"), Path("shared"))
    prepare_root(Path("second"), Path("shared"))
    assert [(file.name, file.read_text()) for file in Path("second/cache/qemu/capabilities").iterdir()] == [
        ("qemu.xml", "new")
    ]
    os.utime(learned / "qemu.xml", (0, 0))
    (learned / "qemu.xml").write_text("newest")
    os.utime(learned / "qemu.xml", (2e9, 2e9))
    keep_capabilities(Path("first"), Path("shared"))
    assert Path("shared/qemu.xml").read_text() == "newest"


def test_only_ended_machines_are_reaped() -> None:
    """Another child's status can be taken only once, and belongs to whoever started it."""
    child = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    reap_probes()
    assert os.waitpid(child, 0) == (child, 0)
