"""Network addresses as an operator writes them: `192.0.2.1:8080`, `[2001:db8::1]:8080`, `db1.example:8080`."""

import ipaddress
import re
from typing import NamedTuple

_HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9-]{1,63})*")


class Address(NamedTuple):
    """A host and a TCP port."""

    host: str
    """Name or IP address, without brackets."""
    port: int
    """1 to 65535."""


def parse_address(text: str) -> Address:
    """Return the address that `text` names.

    Raises:
        ValueError: `text` is no address; the message says what is wrong with it.
    """
    host, separator, port_text = text.rpartition(":")
    if not separator:
        raise ValueError(f'"{text}" has no port')
    if not port_text.isascii() or not port_text.isdigit() or not 1 <= int(port_text) <= 65535:
        raise ValueError(f'"{port_text}" is no port from 1 to 65535')
    return Address(_host(host), int(port_text))


def _host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError as error:
            raise ValueError(f'"{host}" is no IPv6 address in brackets') from error
    if ":" in host:
        raise ValueError(f'an IPv6 address stands in brackets: "[{host}]:port"')
    if re.fullmatch(r"[0-9.]+", host):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError as error:
            raise ValueError(f'"{host}" is no IPv4 address') from error
    if not _HOST_NAME.fullmatch(host):
        raise ValueError(f'"{host}" is no host name or IP address')
    return host.lower()
