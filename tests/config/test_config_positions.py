"""Every key of a TOML text has the line on which it begins."""

import json
import tomllib
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from replica_manager.config_positions import KeyPath, find_positions, line_of

SAMPLE = '''\
top = 1            # line 1
"quoted key" = "]"
a.b = """
[not.a.table]
x = \\"""1"""

[table]            # line 7
list = [
  1, # one
  { k = 'v', l = [ "}" ] },
  """two
lines""",
]
date = 1979-05-27 07:32:00Z

[[array]]          # line 16
id = 0
[array.sub]
x = 1
[[array]]
id = 1
inline = { p.q = 1 }
'''


def test_keys_tables_and_list_elements_have_their_line() -> None:
    """Strings and comments that look like TOML do not move the lines."""
    positions = find_positions(SAMPLE)
    expected: dict[KeyPath, int] = {
        ("top",): 1,
        ("quoted key",): 2,
        ("a",): 3,
        ("a", "b"): 3,
        ("table",): 7,
        ("table", "list"): 8,
        ("table", "list", 0): 9,
        ("table", "list", 1): 10,
        ("table", "list", 1, "k"): 10,
        ("table", "list", 1, "l", 0): 10,
        ("table", "list", 2): 11,
        ("table", "date"): 14,
        ("array", 0): 16,
        ("array", 0, "id"): 17,
        ("array", 0, "sub"): 18,
        ("array", 0, "sub", "x"): 19,
        ("array", 1): 20,
        ("array", 1, "id"): 21,
        ("array", 1, "inline", "p", "q"): 22,
    }
    assert {path: positions[path] for path in expected} == expected


def test_line_of_a_missing_key_is_that_of_its_section() -> None:
    """A default value has no line; the operator is led to where it would stand."""
    positions = find_positions(SAMPLE)
    assert line_of(positions, ("array", 1, "host")) == 20
    assert line_of(positions, ("nowhere", "x")) == 1


def test_windows_line_ends_count_once() -> None:
    """TOML allows CRLF; editors count one line."""
    assert find_positions("a = 1\r\nb = 2\r\n")[("b",)] == 2


def paths_of(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield every path in decoded TOML."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, element in items:
        yield from paths_of(element, (*path, key))


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8)
SCALAR = st.one_of(st.integers(-99, 99), st.booleans(), TEXT)
VALUE = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
TABLE = st.dictionaries(TEXT, VALUE, max_size=4)


def render(value: Any, pad: str) -> str:
    """Write `value` as TOML; `pad` (blanks or a comment line) goes where TOML allows line ends."""
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(
                f"{json.dumps(key, ensure_ascii=False)} = {render(element, '')}" for key, element in value.items()
            )
            + "}"
        )
    if isinstance(value, list):
        return "[" + pad + ("," + pad).join(render(element, pad) for element in value) + pad + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower()


@given(
    st.lists(st.tuples(TEXT, TABLE), max_size=4, unique_by=lambda item: item[0]), st.sampled_from(["", "\n", " # ]\n"])
)
def test_every_decoded_path_has_a_position(tables: list[tuple[str, dict[str, Any]]], pad: str) -> None:
    """The scanner finds exactly what `tomllib` decodes, whatever the text looks like."""
    lines = []
    for name, table in tables:
        lines.append(f"[{json.dumps(name, ensure_ascii=False)}]")
        lines.extend(f"{json.dumps(key, ensure_ascii=False)} = {render(value, pad)}" for key, value in table.items())
    text = "\n".join(lines)
    positions = find_positions(text)
    assert set(positions) == set(paths_of(tomllib.loads(text)))
    assert all(1 <= line <= text.count("\n") + 1 for line in positions.values())
