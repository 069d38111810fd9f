"""Settings as they are given: in the environment, in `.env`, or in a file that either of them names."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dotenv import dotenv_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAY_BE_EMPTY = frozenset({"replicate_seed_input", "replicate_api_prefix"})  # empty says something: there is none
# docker's --env-file keeps the quotes that a shell would take off.
_QUOTED = re.compile(r"""(?s)\s*(["'])((?:(?!\1).)*)\1\s*""")
# Kubernetes sets HTTP_PORT for a service named "http", as tcp://10.0.0.1:80. Nobody means a port of ours by that.
_OF_A_SERVICE = re.compile(r"(tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for the value of a secret whose file cannot be read; no field takes it."""

    line: str


def given(names: Iterable[str], *, secrets: Iterable[str], dotenv: Path | None) -> dict[str, Any]:
    """The values of those names that are given; the environment wins over `.env`, NAME over NAME_FILE beside it.

    Raises OSError and UnicodeDecodeError where `.env` cannot be read.
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


def reason(error: OSError | UnicodeDecodeError) -> str:
    """Why a file cannot be read."""
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "not UTF-8 text"


def _value(place: Mapping[str, str], name: str, *, secret: bool) -> Any:
    value, file = place.get(name), place.get(f"{name}_file") if secret else None
    if value is not None and is_given(name, value) and not (name == "http_port" and _OF_A_SERVICE.match(value)):
        return value
    if not file:
        return None
    try:
        return Path(file).read_text(encoding="utf-8-sig").strip() or None
    except (OSError, UnicodeDecodeError) as error:
        return Unreadable(f"{name.upper()}_FILE: cannot read {file}: {reason(error)}")


def _dotenv(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    # As it stands there: what is put in for ${NAME} would change a secret that has a dollar.
    values = dotenv_values(path, interpolate=False, encoding="utf-8-sig")
    return {name.lower(): value for name, value in values.items() if value is not None}


def _unquoted(value: str) -> str:
    quoted = _QUOTED.fullmatch(value)
    return quoted[2] if quoted else value
