"""From an exception to what an operator reads: one sentence, a hint, an exit code."""

from collections.abc import Sequence
from dataclasses import dataclass

from replica_manager.config_findings import ConfigError
from replica_manager.control.cli.exit_codes import ExitCode
from replica_manager.control.errors import AlreadyRuns, ControlTimeout, ControlUnavailable, RefusedByOperator


@dataclass(frozen=True, slots=True)
class Failure:
    """What is said, and the code that the process ends with."""

    lines: Sequence[str]
    code: ExitCode


def failure_of(error: Exception) -> Failure:
    """Return what to say about `error`.

    Errors of the project are sentences already; anything else is our own mistake and is called so.
    """
    if isinstance(error, ConfigError):
        return Failure([finding.render(error.file_name) for finding in error.findings], ExitCode.USAGE)
    hint = str(getattr(error, "hint", ""))
    if _is_ours(error):
        return Failure(_with_hint(f"error: {error}", hint), _code_of(error))
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return Failure([f"error: {place}{error.strerror or error}"], ExitCode.ERROR)
    words = f"internal error: {type(error).__name__}: {error}"
    return Failure(_with_hint(words, "a mistake of this program; --debug shows where"), ExitCode.ERROR)


def _is_ours(error: Exception) -> bool:
    """Say whether the error's message was written for operators."""
    package = type(error).__module__.partition(".")[0]
    return package in ("agreement", "exec_wrapper", "images", "replica_manager", "rubis_adapter", "benchmarks")


def _code_of(error: Exception) -> ExitCode:
    if isinstance(error, ControlTimeout):
        return ExitCode.TIMEOUT
    if isinstance(error, ControlUnavailable):
        return ExitCode.NOT_SERVING
    if isinstance(error, RefusedByOperator | AlreadyRuns):
        return ExitCode.USAGE
    return ExitCode.ERROR


def _with_hint(sentence: str, hint: str) -> list[str]:
    return [sentence, *(f"hint: {hint}".splitlines() if hint else [])]
