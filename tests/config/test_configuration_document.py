"""`docs/configuration.md` has every key with its values and default, and nothing else; its examples are right."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import FieldInfo

from replica_manager.config import Config
from replica_manager.config_check import load
from replica_manager.config_decode import describe_type, section_fields, section_type

DOCUMENT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
ROW = re.compile(r"\| `(?P<key>\w+)` \| (?P<values>.+?) \| (?P<default>.+?) \| (?P<meaning>.+) \|")
EXAMPLES = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)


def documented(heading: str) -> dict[str, tuple[str, str, str]]:
    """Return the rows below a heading: values, default and meaning by key."""
    text = DOCUMENT.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return {row["key"]: (row["values"], row["default"], row["meaning"]) for row in ROW.finditer(text)}


def default_text(field: FieldInfo) -> str:
    """Return the default of a field as the document writes it."""
    if field.required:
        return "needed"
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if default == "":
        return "none"
    return "`f`" if default is None else f"`{msgspec.json.encode(default).decode()}`"


def sections() -> dict[str, list[FieldInfo]]:
    """Return the fields by heading of the document."""
    found = {"Top of the file": [field for field in section_fields(Config) if section_type(field)[0] is None]}
    for field in section_fields(Config):
        section, is_list = section_type(field)
        if section is not None:
            found[f"`[[{field.name}]]`" if is_list else f"`[{field.name}]`"] = list(section_fields(section))
    return found


@pytest.mark.parametrize("heading", list(sections()))
def test_every_key_stands_in_the_document_with_its_values_and_default(heading: str) -> None:
    """A key that is added, removed or changed without the document fails here."""
    rows = documented(heading)
    wanted = {field.name: (describe_type(field.type), default_text(field)) for field in sections()[heading]}
    assert {key: row[:2] for key, row in rows.items()} == wanted
    assert all(len(row[2]) > 10 for row in rows.values())


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_of_the_document_are_right(example: str, tmp_path: Path) -> None:
    """They can be copied."""
    assert tomllib.loads(example)["cell"]["name"]
    path = tmp_path / "spare.toml"
    path.write_text(example.replace('runtime_dir = "run"', 'runtime_dir = "/run/spare/try"'))
    assert load(path).cell.f == 1
