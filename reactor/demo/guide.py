"""What the screen tells somebody who reads nothing else: the link, the commands, and what to do next."""

from __future__ import annotations

import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from reactor.operations.verdict import duration

if TYPE_CHECKING:
    from reactor.demo.stories import Pause, Stories

LINK = "watch and steer:    "
_INDENT = " " * len(LINK)
_ROOM = 56  # characters of a command, so that a terminal of 80 columns shows it whole


class Step(NamedTuple):
    """How things are, and what to do about it."""

    style: str
    state: str
    todo: str


@dataclass(frozen=True, slots=True)
class Guide:
    """`database_url`: of the demo's own database. None: it was given, so its password is not shown."""

    page_url: str
    base_url: str
    database_url: str | None

    @property
    def commands(self) -> list[str]:
        """Commands for another terminal, each on a line of its own, so that it can be copied."""
        settings = [f"export DATABASE_URL={_short(self.database_url)}"] if self.database_url else []
        first, *others = [*settings, f"{_program()} retry --failed"]
        return [
            f"break the provider: curl -X POST {self.base_url}/sandbox/break",
            f"heal it:            curl -X POST {self.base_url}/sandbox/heal",
            f"retry what failed:  {first}",
            *(f"{_INDENT}{other}" for other in others),
        ]


def step(stories: Stories) -> Step:
    """What to do next."""
    if stories.closed is not None:
        return _paused(stories.closed)
    failed = [story for story in stories.minted if story.status == "failed"]
    if failed:
        state = f"{len(failed):,} {'token has' if len(failed) == 1 else 'tokens have'} failed: {failed[-1].error}"
        return Step("bold yellow", state, "Heal the provider, then retry them: on the page, or as shown above.")
    return Step("bold green", "All is well.", "Open the link. Then, in another terminal, break the provider.")


def _paused(pause: Pause) -> Step:
    """A pause of the page's looks like one of the provider's if it has an end, so what is said fits both."""
    if pause.worker_only:
        return Step("bold red", pause.reason, "Heal the provider. The worker tries again by itself.")
    state = f"The gate is closed: {pause.reason}"
    if pause.seconds is None:
        return Step("bold red", state, "Press Resume on the page.")
    wait = f"wait {duration(pause.seconds)}"
    return Step("bold red", state, f"Heal the provider if it is broken, and {wait}; or press Resume.")


def _short(url: str) -> str:
    """The URL without what libpq adds by itself: the database has the user's name."""
    return f"postgres://{urlsplit(url).netloc}"


def _program() -> str:
    """The command that runs this reactor: its whole path, or the path from here if that is too long."""
    program = Path(sys.executable).with_name("reactor")
    if shutil.which(program.name) == str(program):
        return program.name
    if len(str(program)) + len(" retry --failed") > _ROOM and program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    return shlex.quote(str(program))
