"""Checks the URLs of settings. An error message never repeats a part of the URL.

A password that is not percent-encoded can break a URL apart: in `postgresql://u:12?Secret@host/db` the host is `u`, and
the options begin inside the password. So a URL is refused if it can be read in two ways. Then a secret can only be in
the password, the one part that the driver and the server do not repeat in their errors.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

DEFAULT_BASE_URL = "https://api.replicate.com"
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SCHEME = re.compile(r"(?i)postgres(ql)?(\+\w+)?://")
_ENCODE = "percent-encode these characters in a name or a password: %40 for @, %2F for /, %3F for ?, %23 for #"


def database_url(given: str) -> str:
    """Return the URL as asyncpg takes it. Raises ValueError with a message that repeats no part of it."""
    scheme = _SCHEME.match(given.strip())
    if scheme is None:
        raise ValueError("is not a postgresql:// URL")
    url = f"postgresql://{given.strip()[scheme.end() :]}"
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        numbers = parts.port != 0 and all(0 < int(port) < 65536 for port in options.get("port", "1").split(","))
    except ValueError:
        raise ValueError(f"cannot be read as a postgresql:// URL; {_ENCODE}") from None
    behind = url.removeprefix(f"postgresql://{parts.netloc}")
    if not numbers or parts.netloc.count("@") > 1 or "@" in behind or "#" in behind:
        raise ValueError(f"cannot be read as a postgresql:// URL; {_ENCODE}")
    if options.get("sslmode", "prefer") not in SSL_MODES:
        raise ValueError(f"has an sslmode that is none of {', '.join(SSL_MODES)}")
    return url


def passwords(url: str) -> list[str]:
    """Return the passwords in a URL: the user's as it is written, and those among the options decoded."""
    parts = urlsplit(url)
    given = [value for name, value in parse_qsl(parts.query) if "password" in name]
    return [parts.password, *given] if parts.password else given


def base_url(given: str) -> str:
    """Return the http(s):// URL without a slash at its end. Raises ValueError with a message that repeats no part."""
    url = given.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known or not url.isprintable() or " " in url:
        raise ValueError("is not an http(s):// URL")
    if "@" in url or "?" in url or "#" in url:
        raise ValueError("must be no more than a host and a path: a user, a password or a query would not be sent")
    return url
