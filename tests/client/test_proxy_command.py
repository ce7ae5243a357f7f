"""`spare proxy`: what is wrong is said in one sentence, before anything is served."""

import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from replica_manager.control.cli.exit_codes import ExitCode
from replica_manager.control.cli.failures import failure_of
from replica_manager.control.cli.root import spare
from tests.config.test_config_check import HOSTS, SMALLEST


def refusal(directory: Path, text: str, *options: str) -> tuple[str, int]:
    """Return what the command says and its exit code."""
    file = directory / "spare.toml"
    file.write_text(text)
    result = CliRunner().invoke(spare, ["proxy", "-c", str(file), *options])
    error = result.exception
    if isinstance(error, Exception):
        failure = failure_of(error)
        return " ".join(failure.lines), int(failure.code)
    return result.output, result.exit_code


def test_hosts_without_a_framed_port_are_no_cell_for_a_proxy(tmp_path: Path) -> None:
    """The hint names the key."""
    http = HOSTS.replace('image = "key-value"', 'image = "key-value"\nlisten = "http"')
    words, code = refusal(tmp_path, http, "--listen", "127.0.0.1:1")
    assert code == ExitCode.ERROR
    assert "no port for the framed protocol" in words
    assert "`framed_address`" in words


@pytest.mark.parametrize("listen", ["8080", "x:0", "[::1:80"])
def test_an_address_that_is_none_is_a_usage_error(tmp_path: Path, listen: str) -> None:
    """As click says it."""
    words, code = refusal(tmp_path, SMALLEST, "--listen", listen)
    assert (code, "--listen" in words) == (ExitCode.USAGE, True)


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    """By whom, the operating system does not say."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        words, code = refusal(tmp_path, HOSTS, "--listen", address)
    assert code == ExitCode.ERROR
    assert f"{address} cannot be opened: Address already in use" in words


def test_a_cell_in_namespaces_that_does_not_run_here_is_said_so(tmp_path: Path) -> None:
    """Its servers could not be reached."""
    text = SMALLEST.replace("shop", f"none-{os.getpid()}")
    words, code = refusal(tmp_path, text, "--listen", "127.0.0.1:18080")
    assert code == ExitCode.ERROR
    assert "does not run on this machine" in words
    assert "spare cell up" in words


def test_inside_needs_namespaces(tmp_path: Path) -> None:
    """Hosts have their own networks."""
    words, code = refusal(tmp_path, HOSTS, "--listen", "127.0.0.1:18080", "--inside")
    assert (code, "no network namespaces" in words) == (ExitCode.USAGE, True)
