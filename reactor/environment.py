"""Settings as they are given: in the environment, in `.env`, or in a file that either of them names."""

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
MAY_BE_EMPTY = frozenset({"replicate_seed_input", "replicate_api_prefix"})  # empty says something: there is none
# docker's --env-file keeps the quotes that a shell would take off.
_QUOTED = re.compile(r"""(?s)\s*(["'])((?:(?!\1).)*)\1\s*""")
# Kubernetes sets HTTP_PORT for a service named "http", as tcp://10.0.0.1:80. Nobody means a port of ours by that.
_OF_A_SERVICE = re.compile(r"(tcp|udp|sctp)://")
# What stands in a variable NAME_FILE may be the secret itself. Only a path from / or ./ that has nothing of a URL, of a
# token or of base64 is none for certain.
_CERTAIN_PATH = re.compile(r"(?!.*(?:^|[^a-z])r8_)(?:[A-Za-z]:|\.{0,2})[/\\][^:@=+?#]*")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for the value of a secret whose file cannot be read; no field takes it."""

    line: str


def given(names: Iterable[str], *, secrets: Iterable[str], dotenv: Path | None) -> dict[str, Any]:
    """The values of those names that are given; the environment wins over `.env`, NAME over NAME_FILE beside it.

    Raises OSError and ValueError where `.env` cannot be read.
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
    """Whether a value says anything: compose and helm write an empty variable where nobody set one."""
    return not isinstance(value, str) or name in MAY_BE_EMPTY or bool(value.strip())


def reason(error: OSError | ValueError) -> str:
    """Why a file cannot be read."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "not the name of a file"


def is_folder(path: Path | str | None) -> bool:
    """Whether `.env` is a folder, as a virtual environment's may be, or one that docker made for a file it missed."""
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
    return "it (its value is not repeated, as it may be the secret itself: give the path of a file, from / or ./)"


def _text_of(path: str | Path) -> str:
    """The text of a regular file. Raises OSError and ValueError.

    Anything else is refused, because it may have no end, or nobody at its other end. Without O_NONBLOCK already the
    opening of a FIFO would wait for somebody.
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
    # As it stands there: what is put in for ${NAME} would change a secret that has a dollar.
    values = dotenv_values(stream=io.StringIO(_text_of(path)), interpolate=False)
    return {name.lower(): value for name, value in values.items() if value is not None}


def _unquoted(value: str) -> str:
    quoted = _QUOTED.fullmatch(value)
    return quoted[2] if quoted else value
