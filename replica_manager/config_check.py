"""Reads a configuration file and finds every mistake in it at once.

In order: syntax (`config_syntax`), every field by itself (`config_decode`), defaults (`config_defaults`), values and
members against each other (`config_value_rules`, `config_member_rules`), and for `check` also this machine:
images and disks (`config_environment`).  A mistake is reported once, not again as its consequences.
"""

from collections.abc import Callable
from pathlib import Path

from replica_manager.config import Config
from replica_manager.config_decode import decode
from replica_manager.config_defaults import complete
from replica_manager.config_environment import ImageProblem, check_environment
from replica_manager.config_findings import ConfigError, Finding, Report
from replica_manager.config_member_rules import check_members
from replica_manager.config_positions import find_positions
from replica_manager.config_syntax import parse
from replica_manager.config_value_rules import check_values

FILE_BYTES_MAX = 1024 * 1024
"""A configuration is a few kilobytes; a longer file was meant for something else."""


def load(path: Path) -> Config:
    """Return the complete configuration in the file `path`: defaults filled in, paths absolute.

    Raises:
        ConfigError: the file cannot be read or has mistakes; all of them are in `findings`.
    """
    config, report = _examine(path)
    _raise_errors(path, report)
    return config


def check(path: Path, image_problem: ImageProblem | None = None) -> list[Finding]:
    """Return everything that is wrong or doubtful with the file `path` on this machine, in the order of its lines.

    Args:
        path: the file.
        image_problem: says why an image cannot be used; `None`: images are not looked for.
    """
    config, report = _examine(path)
    if not report.findings or report.positions:
        check_environment(config, report, image_problem)
    return report.in_file_order()


def _examine(path: Path) -> tuple[Config, Report]:
    text = read_text(path)
    if isinstance(text, Finding):
        return complete(decode({}, Report(is_partial=True)), path), Report(findings=[text])
    parsed = parse(text)
    report = Report(
        positions=find_positions(parsed.text),
        findings=list(parsed.findings),
        broken_keys=parsed.broken_keys,
        is_partial=bool(parsed.findings),
    )
    config = complete(decode(parsed.values, report), path)
    rules: tuple[Callable[[Config, Report], None], ...] = (check_values, check_members)
    for rule in rules:
        rule(config, report)
    return config, report


def read_text(path: Path) -> str | Finding:
    """Return the text of a file that an operator wrote, or why it cannot be one."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Finding("error", 0, "", "there is no such file", "name one with -c FILE or SPARE_CONFIG")
    except OSError as error:
        return Finding("error", 0, "", f"cannot be read: {error.strerror}")
    if len(content) > FILE_BYTES_MAX:
        return Finding("error", 0, "", f"has {len(content)} bytes; a configuration has at most {FILE_BYTES_MAX}")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        return Finding("error", line, "", "is not UTF-8 text")


def _raise_errors(path: Path, report: Report) -> None:
    findings = report.in_file_order()
    if any(finding.severity == "error" for finding in findings):
        raise ConfigError(str(path), findings)
