"""A frame of the live view, for terminals of 72 x 21 and more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.bar import Bar
from rich.console import Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.style import Style
from rich.table import Table
from rich.text import Text

from reactor.demo.guide import LINK, step
from reactor.demo.stories import percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from reactor.demo.guide import Guide
    from reactor.demo.stories import Stories

STATUSES = {"detected": "yellow", "generating": "cyan", "uploading": "green", "failed": "red"}
_FIXED = 15  # lines of a frame that show neither commands, tokens nor URLs; two of them are the border
EDGES = 4  # columns of a frame that are its border
_SPARKS = "▁▂▃▄▅▆▇█"
_SPARK_TOP = 0.02  # seconds that the tallest spark stands for, unless a reaction took longer


def frame(stories: Stories, guide: Guide, width: int, height: int) -> RenderableType:
    urls = 1 if height < 28 else 4
    style, state, todo = step(stories)
    parts: list[RenderableType] = [
        Text.assemble((LINK, "dim"), _linked(f"{guide.page_url}/")),
        *(Text(command, "dim", no_wrap=True, overflow="ellipsis") for command in guide.commands),
        Text(state, style, no_wrap=True, overflow="ellipsis"),
        Text(todo, "bold", no_wrap=True, overflow="ellipsis"),
        Text(),
        _middle(stories, width - EDGES),
        Text(),
        _tokens(stories, max(1, height - _FIXED - len(guide.commands) - urls)),
        Text(),
        *_latest_urls(stories, urls),
        Text(),
        _progress(stories, width - EDGES),
    ]
    return Panel(
        Group(*parts),
        title="[bold]reactor[/]  [dim]a mint commits, its image is on the way[/]",
        subtitle="[dim]Ctrl-C ends[/]",
        border_style="blue",
        height=height,
        padding=(0, 1),
    )


def milliseconds(seconds: float | None) -> str:
    """`3.2 ms` or `1.50 s`; '' for None."""
    return "" if seconds is None else f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def sparks(values: Sequence[float]) -> str:
    """A text with a small column for each value."""
    top = max([_SPARK_TOP, *values])
    return "".join(_SPARKS[min(int(value / top * len(_SPARKS)), len(_SPARKS) - 1)] for value in values)


def _linked(url: str, text: str = "") -> Text:
    return Text(text or url, Style(color="bright_blue", underline=True, link=url))


def _middle(stories: Stories, width: int) -> Table:
    right = min(42, max(38, width // 2))
    grid = Table.grid(padding=(0, 3), expand=True)
    grid.add_column(ratio=1)
    grid.add_column(width=right, no_wrap=True)
    grid.add_row(_statuses(stories, max(4, width - right - 22)), _figures(stories, right))
    return grid


def _statuses(stories: Stories, width: int) -> Table:
    counts = stories.counts
    grid = Table.grid(padding=(0, 1))
    for status, colour in STATUSES.items():
        bar = Bar(stories.expected, 0, counts[status], width=width, color=colour)
        grid.add_row(Text(f"{status:<10}", colour), f"{counts[status]:>5}", bar)
    return grid


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
        shown = milliseconds(percentile(values, percent)) or "-"
        text.append(f"p{percent} ", "dim").append(f"{shown:<10}", style)
    return text


def _tokens(stories: Stories, rows: int) -> Table:
    """The latest tokens, newest first, on exactly `rows` lines."""
    table = Table(box=None, padding=(0, 1, 0, 0), expand=True, header_style="dim", pad_edge=False)
    table.add_column("token", justify="right", width=6)
    table.add_column("prompt", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("", width=2)
    table.add_column("status", width=10)
    table.add_column("reaction", justify="right", width=8, no_wrap=True)
    table.add_column("total", justify="right", width=8, no_wrap=True)
    table.add_column("image", width=6, no_wrap=True)
    for story in reversed(stories.minted[-rows:]):
        table.add_row(
            Text(str(story.token_id), "bold"),
            Text(story.prompt, "" if story.ended_at is None else "dim", no_wrap=True, overflow="ellipsis"),
            _marks(retried=story.retried, censored=story.censored),
            Text(story.status, STATUSES[story.status]),
            Text(milliseconds(story.reaction)),
            Text("" if story.total is None else f"{story.total:.2f} s"),
            _linked(story.image_url, "open ↗") if story.image_url else Text(),
        )
    for _ in range(rows - len(stories.minted)):
        table.add_row()
    return table


def _latest_urls(stories: Stories, lines: int) -> list[Text]:
    """The whole URLs of the latest pictures, newest first, on exactly `lines` lines."""
    urls = [(story.token_id, story.image_url) for story in stories.ended if story.image_url]
    shown = [
        Text.assemble((f"{token_id:>6} ", "bold"), _linked(url), overflow="ellipsis")
        for token_id, url in reversed(urls[-lines:])
    ]
    return shown + [Text()] * (lines - len(shown))


def _progress(stories: Stories, width: int) -> Table:
    done = len(stories.ended)
    text = f"{done}/{stories.expected}   {stories.elapsed:.0f} s   reaction p50 "
    text += milliseconds(percentile(stories.reactions, 50)) or "-"
    bar_width = max(10, width - len(text) - 2)
    grid = Table.grid(padding=(0, 2))
    grid.add_row(ProgressBar(stories.expected, done, width=bar_width, finished_style="green"), Text(text))
    return grid
