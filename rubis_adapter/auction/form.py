"""The parameters of a request: decoded strictly, then checked one by one.

Decoding is done here and not by a library, because libraries of different versions repair bad input differently, and
replicas may run different versions.  Of a parameter that comes twice the first counts; the query comes before the body.
"""

import re
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from rubis_adapter.schema import ID_MAX, PRICE_DIGITS

FIELDS_MAX: Final = 64
PRICE_MAX: Final = Decimal(10 ** (PRICE_DIGITS - 2)) - Decimal("0.01")

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,12}", re.ASCII)
_PRICE: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{0,12})?([eE]\+?[0-9])?", re.ASCII)
"""Also what a program prints that computes with floats: `17.300001`, `1.2E7`."""
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")
_CONTROL_BUT_LINES: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class FormError(Exception):
    """Raised when a form cannot be decoded or a parameter is not acceptable; the text says which and why."""


class Form:
    """The decoded parameters of one request."""

    def __init__(self, *encoded: bytes) -> None:
        """Decodes `application/x-www-form-urlencoded` bytes, first the query string, then the body.

        Raises:
          FormError: too many fields, a broken escape, or not UTF-8.
        """
        self._fields: dict[str, str] = {}
        parts = [part for data in encoded for part in data.split(b"&") if part]
        if len(parts) > FIELDS_MAX:
            raise FormError(f"a form has at most {FIELDS_MAX} fields")
        for part in parts:
            name, _, value = part.partition(b"=")
            self._fields.setdefault(_decode(name), _decode(value))

    def has(self, name: str) -> bool:
        """Whether the parameter is there and not empty."""
        return bool(self._fields.get(name))

    def text(self, name: str, characters_max: int) -> str:
        """A single line of 1 to `characters_max` characters."""
        return self._text(name, characters_max, _CONTROL)

    def long_text(self, name: str, characters_max: int) -> str:
        """A text of 1 to `characters_max` characters that may have several lines; they end with a line feed."""
        return self._text(name, characters_max, _CONTROL_BUT_LINES).replace("\r\n", "\n").replace("\r", "\n")

    def integer(self, name: str, least: int, most: int, default: int | None = None) -> int:
        """A whole number from `least` to `most`; `default` if the parameter is missing."""
        text = self._fields.get(name, "")
        if not text and default is not None:
            return default
        if not _INTEGER.fullmatch(text) or not least <= int(text) <= most:
            raise FormError(f"{name} must be a whole number from {least} to {most}")
        return int(text)

    def row_id(self, name: str) -> int:
        """An id; it need not exist.  0 is accepted: nothing has it."""
        return self.integer(name, 0, ID_MAX)

    def price(self, name: str, default: Decimal | None = None) -> Decimal:
        """An amount of money from 0, rounded to two digits (half up); `default` if the parameter is missing."""
        text = self._fields.get(name, "")
        if not text and default is not None:
            return default
        if not _PRICE.fullmatch(text):
            raise FormError(f"{name} must be an amount of money such as 12.50")
        price = Decimal(text).quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)
        if price > PRICE_MAX:
            raise FormError(f"{name} must be at most {PRICE_MAX}")
        return price

    def _text(self, name: str, characters_max: int, forbidden: re.Pattern[str]) -> str:
        text = self._fields.get(name, "")
        if not text or text.isspace():
            raise FormError(f"{name} is missing")
        if len(text) > characters_max:
            raise FormError(f"{name} has {len(text)} characters, {characters_max} are allowed")
        if forbidden.search(text):
            raise FormError(f"{name} holds a control character")
        return text


def _decode(data: bytes) -> str:
    decoded = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), data.replace(b"+", b" "))
    if data.count(b"%") != len(_ESCAPE.findall(data)):
        raise FormError("a percent sign is not followed by two hexadecimal digits")
    try:
        return decoded.decode("utf-8")
    except UnicodeDecodeError:
        raise FormError("the form is not UTF-8") from None
