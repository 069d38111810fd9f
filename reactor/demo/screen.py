"""The output of the demo: a live view on a terminal, or a line for each token in a file. Both end with a summary."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Self

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
        """Raise DemoError, because rich's own SystemExit would tear the event loop apart."""
        with suppress(SystemExit):
            super().on_broken_pipe()
        raise DemoError("nobody reads the output any more")


class Lines:
    """The plain output: where the pictures are, a line for each token that ended, and the summary."""

    every = 0.1  # seconds between two looks
    linger = 0.0  # seconds for the last look

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
        for story in self._stories.ended[self._told :]:
            self._console.print(line(story))
        self._told = len(self._stories.ended)

    def summarise(self, *, keep: bool, cut_short: bool) -> None:
        kept = "until Ctrl-C" if keep and not cut_short else "ended with the demo; --keep serves them on"
        for told in [*summary(self._stories, cut_short=cut_short), f"pictures   {self._base_url}/ {kept}"]:
            self._console.print(told)


class Screen(Lines):
    """The live view, on the terminal's other screen."""

    every = 0.12
    linger = 1.5

    def __init__(self, console: Console, stories: Stories, base_url: str) -> None:
        super().__init__(console, stories, base_url)
        # No thread draws by itself, because its work would be measured along with the reactor's.
        self._live = Live(console=console, screen=True, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def look(self) -> None:
        width, height = self._console.size
        self._live.update(frame(self._stories, self._base_url, width, height), refresh=True)


def audience(stories: Stories, base_url: str) -> Lines:
    """The output that fits what stdout is."""
    console = _Console(highlight=False, markup=False, soft_wrap=True)
    fits = console.width >= LEAST_WIDTH and console.height >= LEAST_HEIGHT
    kind = Screen if console.is_terminal and not console.is_dumb_terminal and fits else Lines
    return kind(console, stories, base_url)


def line(story: Story) -> str:
    """One token that ended, on one line."""
    marks = " ".join(name for name in ("retried", "censored") if getattr(story, name))
    told = f"token {story.token_id:>4}  {story.status:<9}  reaction {milliseconds(story.reaction):>8}"
    told += f"  total {story.total or 0:5.2f} s  {shortened(story.prompt, 32):<32}  {marks:<8}"
    return f"{told}  {story.image_url or story.error or ''}".rstrip()


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
