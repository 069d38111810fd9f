"""Who watches: a person at a terminal, or a file that gets a line for each token. Both get the summary."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console
from rich.live import Live

from reactor.demo.house import DemoError
from reactor.demo.stories import percentile
from reactor.demo.view import frame, milliseconds, shortened

if TYPE_CHECKING:
    from reactor.demo.stories import Stories, Story

LEAST_WIDTH, LEAST_HEIGHT = 72, 18  # of a terminal that the view fits


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Take the error as ours: rich's own is SystemExit, which tears an event loop apart."""
        with suppress(SystemExit):
            super().on_broken_pipe()
        raise DemoError("nobody reads the output any more")


class Audience(Protocol):
    """Looks at the stories every `every` seconds, between enter and exit; then gets the summary."""

    every: float
    linger: float  # seconds for the last look

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def look(self) -> None:
        """Show what is new."""

    def summarise(self, *, keep: bool, cut_short: bool) -> None:
        """Tell how it was."""


def audience(stories: Stories, base_url: str) -> Audience:
    """Whoever is at stdout."""
    console = _Console(highlight=False, markup=False, soft_wrap=True)
    fits = console.width >= LEAST_WIDTH and console.height >= LEAST_HEIGHT
    kind = Screen if console.is_terminal and not console.is_dumb_terminal and fits else Lines
    return kind(console, stories, base_url)


class Lines:
    """Plain lines: where the pictures are, one for each token that ended, the summary."""

    every = 0.1
    linger = 0.0

    def __init__(self, console: Console, stories: Stories, base_url: str) -> None:
        self._console = console
        self._stories = stories
        self._base_url = base_url
        self._told = 0

    def __enter__(self) -> Self:
        self._console.print(f"watch the pictures: {self._base_url}/")
        return self

    def __exit__(self, *_: object) -> None:
        self.look()

    def look(self) -> None:
        """See Audience."""
        for story in self._stories.ended[self._told :]:
            self._console.print(line(story))
        self._told = len(self._stories.ended)

    def summarise(self, *, keep: bool, cut_short: bool) -> None:
        """See Audience."""
        for told in summary(self._stories, cut_short=cut_short):
            self._console.print(told)
        if keep and not cut_short:
            self._console.print(f"pictures   {self._base_url}/ until Ctrl-C")
        else:
            self._console.print(f"pictures   {self._base_url}/ ended with the demo; --keep serves them on")


class Screen(Lines):
    """The live view, on the terminal's other screen."""

    every = 0.12
    linger = 1.5

    def __init__(self, console: Console, stories: Stories, base_url: str) -> None:
        super().__init__(console, stories, base_url)
        # Drawn when told to, never by a thread of its own, which would be measured along with the reactor.
        self._live = Live(console=console, screen=True, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def look(self) -> None:
        """See Audience."""
        width, height = self._console.size
        self._live.update(frame(self._stories, self._base_url, width, height), refresh=True)


def line(story: Story) -> str:
    """One token that ended, on one line."""
    marks = " ".join(name for name in ("retried", "censored") if getattr(story, name))
    told = f"token {story.token_id:>4}  {story.status:<9}  reaction {milliseconds(story.reaction):>8}"
    told += f"  total {story.total or 0:5.2f} s  {shortened(story.prompt, 32):<32}  {marks:<8}"
    return f"{told}  {story.image_url or story.error or ''}".rstrip()


def summary(stories: Stories, *, cut_short: bool) -> list[str]:
    """How it was, in a few lines."""
    counts = stories.counts
    told = [
        f"{counts['uploading']} of {stories.expected} tokens uploading, {stories.elapsed:.1f} s after the first mint"
    ]
    if cut_short:
        told[0] += "; the demo was cut short"
    told += [_figures("reaction", stories.reactions, "COMMIT to request at the provider")]
    told += [_figures("total", stories.totals, "COMMIT to status uploading")]
    retried, censored = stories.mishaps
    told += [f"mishaps    {retried} retried, {censored} censored (on purpose), {counts['failed']} failed"]
    if stories.trouble:
        told += [f"trouble    {stories.trouble}"]
    return told


def _figures(name: str, values: list[float], meaning: str) -> str:
    shown = [f"p{percent} {milliseconds(percentile(values, percent)) or '-':<9}" for percent in (50, 99)]
    return f"{name:<10} {' '.join(shown)}  {meaning}"
