"""Takes the URLs of settings apart. An error message never repeats a part of the URL, except a parameter's name.

A password that is not percent-encoded can break a URL apart: in `postgresql://u:12?Secret@host/db` the host is `u`, and
the parameters begin inside the password. So a URL is refused if it can be read in two ways. Then a secret can only be
in the password, the one part that the driver and the server do not repeat in their errors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_BASE_URL = "https://api.replicate.com"
_SCHEME = re.compile(r"(?i)postgres(ql)?(\+\w+)?://")
_PARTS = re.compile(r"postgresql://([^/?#]*)(/[^?#@]*)?(?:\?([^#@]*))?")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
_ENCODE = "percent-encode these characters in a name or a password: %40 for @, %2F for /, %3F for ?, %23 for #"


class UrlError(ValueError):
    """A URL cannot be used. The message says what to do, and repeats no part of the URL but a parameter's name."""


class UnreadableUrlError(UrlError):
    """The URL can be read in two ways, or in none."""

    def __init__(self) -> None:
        super().__init__(f"cannot be read as a postgresql:// URL; {_ENCODE}")


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a URL, as libpq reads it: decoded, but for the hosts, in which a comma or a colon may be encoded."""

    user: str
    password: str
    hosts: str
    database: str
    parameters: Mapping[str, str]


def database_url(given: str) -> str:
    """Return the URL with the scheme that libpq takes. Raises UrlError if it can be read in two ways."""
    given = given.strip()
    scheme = _SCHEME.match(given)
    if scheme is None:
        raise UrlError("is not a postgresql:// URL")
    url = f"postgresql://{given[scheme.end() :]}"
    parts_of(url)
    return url


def parts_of(url: str) -> Parts:
    """Take apart what `database_url` returned. Raises UrlError."""
    found = _PARTS.fullmatch(url)
    if found is None or not url.isprintable() or found[1].count("@") > 1:
        raise UnreadableUrlError
    named, _, hosts = found[1].rpartition("@")
    user, _, password = named.partition(":")
    parameters = {}
    for parameter in found[3].split("&") if found[3] else ():
        name, equals, value = parameter.partition("=")
        if not name or not equals:
            raise UnreadableUrlError
        parameters[_decoded(name)] = _decoded(value)
    return Parts(_decoded(user), _decoded(password), hosts, _decoded((found[2] or "")[1:]), parameters)


def _decoded(text: str) -> str:
    decoded = unquote(text)
    if "\x00" in decoded:
        raise UnreadableUrlError
    return decoded


def passwords(url: str) -> list[str]:
    """Return the passwords in a URL: the user's, and those among the parameters. Raises UrlError."""
    parts = parts_of(url)
    given = [value for name, value in parts.parameters.items() if "password" in name or "secret" in name]
    return [parts.password, *given] if parts.password else given


def base_url(given: str) -> str:
    """Return the http(s):// URL without a slash at its end. Raises ValueError with a message that repeats no part."""
    url = given.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if "[" in parts.netloc else parts.hostname or ""
        known = parts.scheme in {"http", "https"} and _is_host(host) and parts.port != 0
    except ValueError:
        known = False
    if not known or not url.isprintable() or " " in url:
        raise ValueError("is not an http(s):// URL")
    if "@" in url or "?" in url or "#" in url:
        raise ValueError("must be no more than a host and a path: a user, a password or a query would not be sent")
    return url


def _is_host(name: str) -> bool:
    """Whether it is an IP address, or a name in ASCII that is not like one. An IPv6 address is in brackets."""
    try:
        return ip_address(name.strip("[]")).version == (6 if "[" in name else 4)
    except ValueError:
        return _HOST.fullmatch(name) is not None and not name.rstrip(".").rpartition(".")[2].isdigit()
