"""Reads libpq's files: passwords (`~/.pgpass`, `passfile`) and services (`~/.pg_service.conf`, `servicefile`)."""

from __future__ import annotations

import configparser
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from reactor.text.messages import message_of
from reactor.urls import UrlError

if TYPE_CHECKING:
    from collections.abc import Mapping

_LARGEST = 1024 * 1024  # bytes
_FIELD = re.compile(r"((?:[^:\\]|\\.)*):")
_ESCAPED = re.compile(r"\\(.)")


def in_home(*names: str) -> Path | None:
    """The path in the user's home folder; None if the user has none."""
    try:
        return Path.home().joinpath(*names)
    except (RuntimeError, KeyError):
        return None


def password_for(file: str | None, *, host: str, port: int, database: str, user: str) -> str | None:
    """The password of the first line that matches; None if no line does. Raises UrlError.

    A file that the URL names must be usable. `~/.pgpass` is passed over if it is not, as libpq does.
    """
    path = Path(file) if file else in_home(".pgpass")
    try:
        lines = _text(path, private=True).splitlines() if path else []
    except (OSError, ValueError) as error:
        if file is None:
            return None
        raise UrlError(f"passfile cannot be used: {_reason(error)}") from None
    wanted = ("localhost" if host.startswith("/") else host, str(port), database, user)
    for line in lines:
        fields, password = _fields(line)
        if len(fields) == 4 and all(field in {"*", asked} for field, asked in zip(fields, wanted, strict=True)):
            return password
    return None


def _fields(line: str) -> tuple[list[str], str]:
    """Host, port, database and user, then the password. A backslash escapes a colon or a backslash."""
    fields: list[str] = []
    place = 0
    while not line.startswith("#") and len(fields) < 4 and (field := _FIELD.match(line, place)):
        fields.append(_ESCAPED.sub(r"\1", field[1]))
        place = field.end()
    return fields, _ESCAPED.sub(r"\1", line[place:])


def service(name: str, file: str | None) -> Mapping[str, str]:
    """The parameters of a service. Raises UrlError."""
    path = Path(file) if file else in_home(".pg_service.conf")
    read = configparser.RawConfigParser(delimiters=("=",), comment_prefixes=("#",), strict=False, default_section="")
    read.optionxform = str  # type: ignore[assignment, method-assign]  # the names as they are written
    try:
        read.read_string(_text(path) if path else "")
    except (OSError, ValueError, configparser.Error) as error:
        raise UrlError(f"servicefile cannot be used: {_reason(error)}") from None
    if not read.has_section(name):
        raise UrlError("service is not in the service file")
    return dict(read[name])


def _text(path: Path, *, private: bool = False) -> str:
    """The text of a regular file. Raises OSError and ValueError."""
    found = path.stat()  # before it is opened, because a FIFO would wait for a writer
    if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
        raise ValueError("not a regular file of at most 1 MB")
    if private and found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ValueError("group or others may read it, so libpq would ignore it: chmod 600")
    return path.read_text(encoding="utf-8")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, configparser.Error | UnicodeError):
        return "not such a file"
    return message_of(error)
