"""The command line of a wrapper."""

import subprocess
import sys

import pytest

from exec_wrapper.main import load_adapter, main

KEY_VALUE = "exec_wrapper.examples.key_value"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--link", "pigeon:1", KEY_VALUE], "not a link: 'pigeon:1'"),
        (["--link", "unix:/x", "no.such.module"], "cannot import the adapter module 'no.such.module'"),
        (["--link", "unix:/x", KEY_VALUE + ":nothing"], "has no function 'nothing'"),
        (["--link", "unix:/no/such/directory/channel", KEY_VALUE], "unix:/no/such/directory/channel cannot be opened"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback for what the operator wrote."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1


def test_the_factory_gets_the_remaining_arguments() -> None:
    """With and without its name."""
    assert load_adapter(KEY_VALUE, ["--snapshot", "blocking"]).snapshot == "blocking"
    assert load_adapter(KEY_VALUE + ":create_adapter", []).service == "key-value"


def test_the_module_runs_as_a_program() -> None:
    """`python3 -m exec_wrapper` says how it is used."""
    command = [sys.executable, "-m", "exec_wrapper", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "MODULE[:FACTORY]" in result.stdout
