"""Reads the values of settings from the environment, from `.env`, or from a file that either of them names."""

from __future__ import annotations

import errno
import io
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dotenv import dotenv_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

LARGEST_FILE = 64 * 1024  # bytes
MAY_BE_EMPTY = frozenset({"replicate_seed_input", "replicate_api_prefix"})  # an empty value means "there is none"
# docker's --env-file keeps the quotes around a value; a shell removes them.
_QUOTED = re.compile(r"""(?s)\s*(["'])((?:(?!\1).)*)\1\s*""")
# Kubernetes sets HTTP_PORT=tcp://10.0.0.1:80 for a service named "http". That is not our setting.
_OF_A_SERVICE = re.compile(r"(tcp|udp|sctp)://")
# A user may put the secret itself into NAME_FILE. A value is certainly no secret only if it is a path that begins with
# / or ./ and has no sign of a URL, of a token or of base64.
_CERTAIN_PATH = re.compile(r"(?!.*(?:^|[^a-z])r8_)(?:[A-Za-z]:|\.{0,2})[/\\][^:@=+?#]*")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Takes the place of a secret whose file cannot be read. No field accepts it, so `line` becomes the error."""

    line: str


def given(names: Iterable[str], *, secrets: Iterable[str], dotenv: Path | None) -> dict[str, Any]:
    """The values of those names that are set. The environment wins over `.env`, and NAME wins over NAME_FILE.

    Raises OSError and ValueError if `.env` cannot be read.
    """
    places = [{name.lower(): _unquoted(value) for name, value in os.environ.items()}, _dotenv(dotenv)]
    found: dict[str, Any] = {}
    for name in names:
        for place in places:
            value = _value(place, name, secret=name in secrets)
            if value is not None:
                found[name] = value
                break
    return found


def is_given(name: str, value: Any) -> bool:
    """Whether the value is set. An empty text is not: compose and helm write one for a variable without value."""
    return not isinstance(value, str) or name in MAY_BE_EMPTY or bool(value.strip())


def reason(error: OSError | ValueError) -> str:
    """Why a file cannot be read."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "not the name of a file"


def is_folder(path: Path | str | None) -> bool:
    """Whether `.env` is a folder: a virtual environment, or one that docker made because a mounted file was missing."""
    return path is not None and _mode(Path(path), stat.S_ISDIR)


def _mode(path: Path, is_so: Callable[[int], bool]) -> bool:
    try:
        return is_so(path.stat().st_mode)
    except OSError:
        return False


def _value(place: Mapping[str, str], name: str, *, secret: bool) -> Any:
    value, file = place.get(name), place.get(f"{name}_file") if secret else None
    if value is not None and is_given(name, value) and not (name == "http_port" and _OF_A_SERVICE.match(value)):
        return value
    if not file:
        return None
    try:
        return _text_of(file).strip() or None
    except (OSError, ValueError) as error:
        return Unreadable(f"{name.upper()}_FILE: cannot read {_named(file)}: {reason(error)}")


def _named(file: str) -> str:
    if file.isprintable() and _CERTAIN_PATH.fullmatch(file):
        return file
    return (
        "it (the value is not shown, as it may be the secret itself: give the path of a file, beginning with / or ./)"
    )


def _text_of(path: str | Path) -> str:
    """The text of a regular file. Raises OSError and ValueError.

    Other kinds of file are refused, because a device may have no end and a FIFO may have no writer. Without O_NONBLOCK,
    opening a FIFO would wait for a writer.
    """
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        with open(number, "rb", closefd=False) as file:
            content = file.read(LARGEST_FILE + 1) or b""
    finally:
        os.close(number)
    if len(content) > LARGEST_FILE:
        raise OSError(errno.EFBIG, f"more than {LARGEST_FILE // 1024} kB")
    return content.decode("utf-8-sig")


def _dotenv(path: Path | None) -> dict[str, str]:
    if path is None or not _mode(path, lambda mode: not stat.S_ISDIR(mode)):
        return {}
    # Without interpolation, because replacing ${NAME} would change a secret that contains a dollar.
    values = dotenv_values(stream=io.StringIO(_text_of(path)), interpolate=False)
    return {name.lower(): value for name, value in values.items() if value is not None}


def _unquoted(value: str) -> str:
    quoted = _QUOTED.fullmatch(value)
    return quoted[2] if quoted else value
