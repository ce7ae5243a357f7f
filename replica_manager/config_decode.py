"""Turns the plain values of a file into a `Config`, field by field, so that every wrong field is reported.

`msgspec.convert` checks each value; it would stop at the first mistake, so it sees one value at a time.
A wrong or missing value is replaced by a stand-in and tainted in the report, so that later rules say nothing about it.
"""

import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Meta
from msgspec.structs import FieldInfo

from replica_manager.config import Config
from replica_manager.config_findings import Report, did_you_mean
from replica_manager.config_positions import KeyPath

Section = TypeVar("Section", bound=msgspec.Struct)

_NOT_IN_FILE = frozenset({"path"})
"""Fields of `Config` that the loader sets."""
_STAND_INS: Mapping[type, Any] = {str: "unnamed", int: -1}
_VALUE_CHARACTERS_MAX = 60
READABLE_BOUND = 1 << 53
"""An upper bound above this only keeps arithmetic exact; it tells an operator nothing."""


def decode(values: Mapping[str, Any], report: Report) -> Config:
    """Return `values` as a configuration, with stand-ins for what is wrong; mistakes go to `report`."""
    return decode_as(Config, values, report)


def decode_as(document: type[Section], values: Mapping[str, Any], report: Report) -> Section:
    """Return `values` as a `document`, a file of another kind; see `decode`."""
    report.document = document
    return _decode_section(document, values, (), report)


def section_fields(section: type[msgspec.Struct]) -> Sequence[FieldInfo]:
    """Return the fields of `section` that a file may have."""
    return [field for field in msgspec.structs.fields(section) if field.name not in _NOT_IN_FILE]


def section_type(field: FieldInfo) -> tuple[type[msgspec.Struct] | None, bool]:
    """Return the section that `field` holds, if it holds one, and whether it is a list of them."""
    if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
        return field.type, False
    if typing.get_origin(field.type) is list:
        (element,) = typing.get_args(field.type)
        if issubclass(element, msgspec.Struct):
            return element, True
    return None, False


def describe_type(wanted: Any) -> str:
    """Return in words which values a field takes."""
    base, meta = _strip_meta(wanted)
    if typing.get_origin(base) is typing.Literal:
        return "one of " + ", ".join(f"`{choice}`" for choice in typing.get_args(base))
    if typing.get_origin(base) is list:
        return "a list of texts"
    if isinstance(base, types.UnionType):
        return describe_type(typing.get_args(base)[0])
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[base]
    if meta is None:
        return words
    if meta.description is not None:
        return f"{words} of {meta.description}"
    lowest = meta.ge if meta.ge is not None else meta.gt
    highest = meta.le if meta.le is not None else meta.lt
    if highest is not None and highest > READABLE_BOUND:
        return f"{words} from {lowest}"
    return f"{words} from {lowest} to {highest}"


def _strip_meta(wanted: Any) -> tuple[Any, Meta | None]:
    if typing.get_origin(wanted) is typing.Annotated:
        base, *rest = typing.get_args(wanted)
        return base, rest[0]
    return wanted, None


def _decode_section(section: type[Section], values: Any, path: KeyPath, report: Report) -> Section:
    if not isinstance(values, dict):
        report.error(path, f"expected a section, found {_show(values)}", f"write [{path[0]}] on a line of its own")
        report.taint(path)
        values = {}
    fields = section_fields(section)
    _report_unknown(values, [field.name for field in fields], path, report)
    decoded = {field.name: _decode_field(field, values, (*path, field.name), report) for field in fields}
    return section(**{name: value for name, value in decoded.items() if value is not msgspec.UNSET})


def _decode_field(field: FieldInfo, values: Mapping[str, Any], path: KeyPath, report: Report) -> Any:
    """Return the value of one field; `UNSET` leaves it at its default."""
    section, is_list = section_type(field)
    if field.name not in values:
        return _missing(field, section, path, report)
    value = values[field.name]
    if section is not None:
        return _decode_list(section, value, path, report) if is_list else _decode_section(section, value, path, report)
    try:
        return msgspec.convert(value, field.type, strict=True)
    except msgspec.ValidationError:
        report.error(path, f"expected {describe_type(field.type)}, found {_show(value)}", _suggest(field.type, value))
        report.taint(path)
        return _stand_in(field)


def _decode_list(section: type[Section], value: Any, path: KeyPath, report: Report) -> list[Section]:
    if not isinstance(value, list):
        report.error(path, f"expected one section per {path[-1]}", f"write [[{path[-1]}]] with double brackets")
        report.taint(path)
        return []
    return [_decode_section(section, element, (*path, index), report) for index, element in enumerate(value)]


def _missing(field: FieldInfo, section: type[msgspec.Struct] | None, path: KeyPath, report: Report) -> Any:
    if not field.required:
        return msgspec.UNSET
    if not report.is_partial:
        what = f"section [{field.name}]" if section is not None else f"`{field.name}`"
        words = "" if section is not None else f"it takes {describe_type(field.type)}"
        report.error(path, f"{what} is missing", words)
    report.taint(path)
    if section is not None:
        # Its own missing fields are no news: the report is tainted at `path`.
        return _decode_section(section, {}, path, report)
    return _stand_in(field)


def _stand_in(field: FieldInfo) -> Any:
    if not field.required:
        return msgspec.UNSET
    wanted, _ = _strip_meta(field.type)
    if typing.get_origin(wanted) is typing.Literal:
        return typing.get_args(wanted)[0]
    return _STAND_INS[wanted]


def _report_unknown(values: Mapping[str, Any], known: Sequence[str], path: KeyPath, report: Report) -> None:
    for name in values:
        if name not in known:
            is_section = isinstance(values[name], dict) or _is_list_of_tables(values[name])
            kind = "section" if is_section else "key"
            report.error((*path, name), f"unknown {kind} `{name}`", _suggest_name(name, known, path, report))


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(element, dict) for element in value)


def _suggest_name(name: str, known: Sequence[str], path: KeyPath, report: Report) -> str:
    homes = [home for home in _homes_of(name, report.document or Config) if home != _section_name(path)]
    if homes:
        return "it belongs " + " or ".join(homes)
    return did_you_mean(name, known)


def _homes_of(name: str, document: type[msgspec.Struct]) -> list[str]:
    """Return where a key of exactly this name belongs."""
    homes = []
    for field in section_fields(document):
        section, is_list = section_type(field)
        if section is None:
            if field.name == name:
                homes.append(_section_name(()))
        elif name in section.__struct_fields__:
            homes.append(_section_name((field.name, 0) if is_list else (field.name,)))
    return homes


def _section_name(path: KeyPath) -> str:
    if not path:
        return "at the top of the file, above the first section"
    return f"into [[{path[0]}]]" if len(path) > 1 else f"into [{path[0]}]"


def _suggest(wanted: Any, value: Any) -> str:
    base, _ = _strip_meta(wanted)
    if typing.get_origin(base) is typing.Literal and isinstance(value, str):
        return did_you_mean(value, typing.get_args(base))
    if base in (int, float) and isinstance(value, str) and value.replace("_", "").isdigit():
        return f"write {value} without quotes"
    if base is bool and isinstance(value, str) and value.lower() in ("true", "false"):
        return f"write {value.lower()} without quotes"
    if typing.get_origin(base) is list and isinstance(value, str):
        return f'write ["{value}"]'
    return ""


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a section"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= _VALUE_CHARACTERS_MAX else text[:_VALUE_CHARACTERS_MAX] + "…"
