"""The output of the demo: a live view on a terminal, else a line for each token. Both end with a summary."""

from __future__ import annotations

import textwrap
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.live import Live

from reactor.demo.guide import LINK, step
from reactor.demo.house import DemoError
from reactor.demo.stories import percentile
from reactor.demo.view import EDGES, frame, milliseconds

if TYPE_CHECKING:
    from reactor.demo.guide import Guide
    from reactor.demo.stories import Pause, Stories, Story

LEAST_WIDTH, LEAST_HEIGHT = 72, 21  # of a terminal with the live view


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Raise DemoError, because the SystemExit that rich raises would end the event loop without its clean-up."""
        with suppress(SystemExit):
            super().on_broken_pipe()
        raise DemoError("nobody reads the output any more")


class Lines:
    """The plain output: the link and the commands, a line for each end of a token or of the gate, and the summary."""

    interval = 0.1  # seconds between two updates
    linger = 0.0  # seconds that the last update stays

    def __init__(self, console: Console, stories: Stories, guide: Guide) -> None:
        self._console = console
        self._stories = stories
        self._guide = guide
        self._printed = 0  # tokens
        self._closed: Pause | None = None  # as printed last

    def __enter__(self) -> Self:
        for shown in [f"{LINK}{self._guide.page_url}/", *self._guide.commands]:
            self._console.print(shown)
        return self

    def __exit__(self, *_: object) -> None:
        self.update()

    def update(self) -> None:
        for story in self._stories.ended[self._printed :]:
            self._console.print(line(story))
        self._printed = len(self._stories.ended)
        if self._stories.closed != self._closed:
            over = "The worker goes on." if self._closed and self._closed.worker_only else "The gate is open."
            self._closed = self._stories.closed
            _, state, todo = step(self._stories)
            self._console.print(over if self._closed is None else f"{state}\n{todo}")

    def summarise(self, *, keep: bool, cut_short: bool) -> None:
        ended = "ended with the demo" if cut_short else "ended with the demo; --keep serves them on"
        pictures = f"pictures   {self._guide.base_url}/ {'until Ctrl-C' if keep and not cut_short else ended}"
        for shown in [*summary(self._stories, cut_short=cut_short), pictures]:
            self._console.print(shown)


class Screen(Lines):
    """The live view, on the terminal's alternate screen."""

    interval = 0.12
    linger = 1.5

    def __init__(self, console: Console, stories: Stories, guide: Guide) -> None:
        super().__init__(console, stories, guide)
        # Without auto_refresh no thread draws, because its work would slow down the reactions that the demo measures.
        self._live = Live(console=console, screen=True, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self) -> None:
        width, height = self._console.size
        self._live.update(frame(self._stories, self._guide, width, height), refresh=True)


def output_for(stories: Stories, guide: Guide) -> Lines:
    """The live view if stdout is a terminal that is large enough, also for each command in a line, else plain lines."""
    console = _Console(highlight=False, markup=False, soft_wrap=True)
    width = max(LEAST_WIDTH, *(len(command) + EDGES for command in guide.commands))
    fits = console.width >= width and console.height >= LEAST_HEIGHT
    kind = Screen if console.is_terminal and not console.is_dumb_terminal and fits else Lines
    return kind(console, stories, guide)


def line(story: Story) -> str:
    """A line for a token that ended."""
    marks = " ".join(name for name in ("retried", "censored") if getattr(story, name))
    prompt = textwrap.shorten(story.prompt, 32, placeholder=" …")
    text = f"token {story.token_id:>4}  {story.status:<9}  reaction {milliseconds(story.reaction):>8}"
    text += f"  total {story.total or 0:5.2f} s  {prompt:<32}  {marks:<8}"
    return f"{text}  {story.image_url or story.error or ''}".rstrip()


def summary(stories: Stories, *, cut_short: bool) -> list[str]:
    """The whole demo in a few lines."""
    counts, (retried, censored) = stories.counts, stories.mishaps
    ended = f"{counts['uploading']} of {stories.expected} tokens uploading"
    return [
        f"{ended}, {stories.elapsed:.1f} s after the first mint" + "; the demo was cut short" * cut_short,
        _figures("reaction", stories.reactions, "COMMIT to request at the provider"),
        _figures("total", stories.totals, "COMMIT to status uploading"),
        f"mishaps    {retried} retried, {censored} censored (on purpose), {counts['failed']} failed",
        *[f"trouble    {stories.trouble}"] * bool(stories.trouble),
    ]


def _figures(name: str, values: list[float], meaning: str) -> str:
    shown = [f"p{percent} {milliseconds(percentile(values, percent)) or '-':<9}" for percent in (50, 99)]
    return f"{name:<10} {' '.join(shown)}  {meaning}"
