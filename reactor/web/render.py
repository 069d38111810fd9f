"""Fills in the templates. Every value is escaped: no template marks a text of others as safe."""

from __future__ import annotations

import re
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from reactor.operations.verdict import duration
from reactor.web.static_files import StaticFiles

_VARYING = re.compile(r"[#…]|\[redacted\]")
_PREDICTION = re.compile(r"[a-z0-9]{26}", re.ASCII)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request


@cache
def environment() -> Environment:
    """The templates of `templates/`."""
    made = Environment(
        loader=PackageLoader("reactor.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        duration=duration,
        moment=moment,
        number=number,
        money=money,
        part=literal_part,
        segment=segment,
        query=query,
        short=short,
    )
    made.tests.update(link=is_link, prediction=is_prediction)
    return made


@cache
def static_files() -> StaticFiles:
    """The files that the templates refer to."""
    return StaticFiles()


def html(
    request: Request, name: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
) -> HTMLResponse:
    """Fill in a template."""
    page = (
        environment()
        .get_template(name)
        .render(base=request.scope.get("root_path", ""), static=static_files().names, path=request.url.path, **values)
    )
    return HTMLResponse(page, status, dict(headers or {}))


def number(value: float) -> str:
    """A count with separators."""
    return f"{value:,.0f}"


def money(value: Any) -> str:
    """An amount in the account's currency: two digits, more for less than a cent."""
    return f"{value:,.2f}" if not value or abs(value) >= 0.01 else f"{value:,.4f}"


def moment(value: datetime) -> str:
    """A time of day, in UTC."""
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if isinstance(value, datetime) else str(value)


def short(seconds: float) -> str:
    """A time that was measured: 4 ms, 1.2 s, 45 s, 12 min."""
    if seconds < 0.995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def literal_part(cause: str) -> str:
    """The longest part of a cause that stands so in every error of it: see operations/causes.py."""
    return max((part.strip() for part in _VARYING.split(cause)), key=len)


def is_prediction(value: str) -> bool:
    """Whether this is the id of a prediction of Replicate's, so that it has a page there."""
    return _PREDICTION.fullmatch(value) is not None


def segment(value: Any) -> str:
    """A text as one segment of a path."""
    return quote(str(value), safe="")


def query(values: Mapping[str, Any]) -> str:
    """A query with those of the values that are given, `?` included; '' for none."""
    given = {name: value for name, value in values.items() if value not in {None, ""}}
    return f"?{urlencode(given)}" if given else ""


def is_link(url: str | None) -> bool:
    """Whether a URL of others may be linked: https, nothing else."""
    if not url or not url.isprintable():
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.netloc) and "@" not in parts.netloc
