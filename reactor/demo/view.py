"""A frame of the live view, for any size from 72 x 18."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.style import Style
from rich.table import Table
from rich.text import Text

from reactor.demo.stories import percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from reactor.demo.stories import Stories, Story

STATUSES = {"detected": "yellow", "generating": "cyan", "uploading": "green", "failed": "red"}
_FIXED = 10  # lines that are neither tokens nor URLs
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_SPARKS = "▁▂▃▄▅▆▇█"
_SPARK_TOP = 0.02  # seconds: the height of the tallest spark, unless a reaction was longer


def frame(stories: Stories, base_url: str, width: int, height: int) -> RenderableType:
    urls = 2 if height < 28 else 4
    parts: list[RenderableType] = [
        Text.assemble(("watch the pictures: ", "dim"), (f"{base_url}/", _linked(f"{base_url}/"))),
        Text(),
        _middle(stories, width - 4),
        Text(),
        _tokens(stories, max(1, height - 3 - _FIXED - urls)),
        Text(),
        *_latest_urls(stories, urls),
        Text(),
        _progress(stories, width - 4),
    ]
    return Panel(
        Group(*parts),
        title="[bold]reactor[/]  [dim]a mint commits, its image is on the way[/]",
        subtitle="[dim]Ctrl-C ends[/]",
        border_style="blue",
        height=height,
        padding=(0, 1),
    )


def shortened(text: str, longest: int) -> str:
    """`text` on at most `longest` characters, cut at the end of a word if one is near."""
    if len(text) <= longest:
        return text
    word = text.rfind(" ", 0, longest)
    return text[: word if word >= longest * 2 // 3 else longest - 1].rstrip(" ,") + "…"


def milliseconds(seconds: float | None) -> str:
    """`3.2 ms`."""
    return "" if seconds is None else f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def bar(share: float, width: int) -> str:
    """A bar as long as `share` (0 … 1) of `width` columns. It is empty only if the share is 0."""
    eighths = max(round(min(share, 1.0) * width * 8), int(share > 0))
    full, rest = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "")


def sparks(values: Sequence[float]) -> str:
    """A column for each value."""
    top = max([_SPARK_TOP, *values])
    return "".join(_SPARKS[min(int(value / top * len(_SPARKS)), len(_SPARKS) - 1)] for value in values)


def _linked(url: str) -> Style:
    return Style(color="bright_blue", underline=True, link=url)


def _middle(stories: Stories, width: int) -> Table:
    right = min(42, width // 2)
    grid = Table.grid(padding=(0, 3), expand=True)
    grid.add_column(ratio=1)
    grid.add_column(width=right)
    grid.add_row(_statuses(stories, max(4, width - right - 22)), _figures(stories, right))
    return grid


def _statuses(stories: Stories, width: int) -> Text:
    counts = stories.counts
    lines = [
        Text.assemble(
            (f"{status:<11}", colour),
            f"{counts[status]:>5} ",
            (bar(counts[status] / stories.expected, width), colour),
        )
        for status, colour in STATUSES.items()
    ]
    return Text("\n").join(lines)


def _figures(stories: Stories, width: int) -> Text:
    reactions, (retried, censored) = stories.reactions, stories.mishaps
    lines = [
        _percentiles("reaction", reactions, "bold green"),
        Text.assemble(" " * 10, (sparks(reactions[-(width - 10) :]), "green")),
        _percentiles("total", stories.totals, "bold"),
        Text.assemble(("mishaps   ", "dim"), _marks(retried=True), f" {retried} retried   "),
    ]
    lines[-1].append(_marks(censored=True)).append(f" {censored} censored")
    return Text("\n").join(lines)


def _marks(*, retried: bool = False, censored: bool = False) -> Text:
    return Text.assemble(("↻" * retried, "yellow"), ("⊘" * censored, "magenta"))


def _percentiles(name: str, values: Sequence[float], style: str) -> Text:
    text = Text.assemble((f"{name:<10}", "dim"))
    for percent in (50, 99):
        told = milliseconds(percentile(values, percent)) or "-"
        text.append(f"p{percent} ", "dim").append(f"{told:<10}", style)
    return text


def _tokens(stories: Stories, rows: int) -> Table:
    """The latest tokens, newest first, on exactly `rows` lines."""
    table = Table(box=None, padding=(0, 1, 0, 0), expand=True, header_style="dim", pad_edge=False)
    table.add_column("token", justify="right", width=6)
    table.add_column("prompt", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("", width=2)
    table.add_column("status", width=10)
    table.add_column("reaction", justify="right", width=8)
    table.add_column("total", justify="right", width=7)
    table.add_column("image", width=6, no_wrap=True)
    for story in reversed(stories.told[-rows:]):
        table.add_row(
            Text(str(story.token_id), "bold"),
            Text(story.prompt, "" if story.ended_at is None else "dim", no_wrap=True, overflow="ellipsis"),
            _marks(retried=story.retried, censored=story.censored),
            Text(story.status, STATUSES[story.status]),
            Text(milliseconds(story.reaction)),
            Text("" if story.total is None else f"{story.total:.2f} s"),
            _link(story, "open ↗"),
        )
    for _ in range(rows - len(stories.told)):
        table.add_row()
    return table


def _link(story: Story, text: str) -> Text:
    return Text() if story.image_url is None else Text(text, _linked(story.image_url))


def _latest_urls(stories: Stories, lines: int) -> list[Text]:
    """The latest pictures' whole URLs, newest first, on exactly `lines` lines."""
    pictured = [story for story in stories.ended if story.image_url][-lines:]
    shown = [
        Text.assemble((f"{story.token_id:>6} ", "bold"), _link(story, story.image_url or ""), overflow="ellipsis")
        for story in reversed(pictured)
    ]
    return shown + [Text()] * (lines - len(shown))


def _progress(stories: Stories, width: int) -> Table:
    done = len(stories.ended)
    told = f"{done}/{stories.expected}   {stories.elapsed:.0f} s   reaction p50 "
    told += milliseconds(percentile(stories.reactions, 50)) or "-"
    bar_width = max(10, width - len(told) - 2)
    grid = Table.grid(padding=(0, 2))
    grid.add_row(ProgressBar(stories.expected, done, width=bar_width, finished_style="green"), Text(told))
    return grid
