"""Places the bars and lines of the charts. The templates draw them as SVG, so that no script and no style is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reactor.operations.pulse import Period, Pulse

WIDTH, HEIGHT = 300.0, 72.0  # of the drawing
STRIP = 20.0  # the height of a small one


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar from the bottom: images, and failures on top of them."""

    x: float
    width: float
    good: float  # heights
    poor: float


@dataclass(frozen=True, slots=True)
class Charts:
    """Both charts, and what they say in words."""

    bars: list[Bar]
    most_ended: int  # of one period
    half: str  # the path of a line
    most: str
    longest: float  # seconds at the top of the times
    images: int
    failed: int
    again: int
    rate: str
    typical: float | None  # seconds from claim to image, of half of the images in the middle period


def charts_of(pulse: Pulse) -> Charts:
    """Both charts of a pulse."""
    periods = pulse.periods
    top = max(1, *(each.succeeded + each.failed for each in periods))
    longest = max((each.most for each in periods if each.most is not None), default=0.0)
    width = WIDTH / len(periods)
    images = sum(each.succeeded for each in periods)
    halves = sorted(each.half for each in periods if each.half is not None)
    return Charts(
        bars=[_bar(each, place, width, top) for place, each in enumerate(periods) if each.succeeded or each.failed],
        most_ended=top,
        half=_line([each.half for each in periods], width, longest),
        most=_line([each.most for each in periods], width, longest),
        longest=longest,
        images=images,
        failed=sum(each.failed for each in periods),
        again=sum(each.again for each in periods),
        rate=_rate(images / (pulse.seconds * len(periods))),
        typical=halves[len(halves) // 2] if halves else None,
    )


def strip_of(periods: Sequence[int], most: int) -> list[Bar]:
    """The bars of a small chart of its own scale: `most` is as high as the chart."""
    width = WIDTH / len(periods)
    return [
        Bar(x=place * width, width=width * 0.8, good=0.0, poor=max(1.5, ended * STRIP / most))
        for place, ended in enumerate(periods)
        if ended
    ]


def _bar(period: Period, place: int, width: float, top: int) -> Bar:
    good, poor = period.succeeded * HEIGHT / top, period.failed * HEIGHT / top
    return Bar(x=place * width, width=width * 0.8, good=good, poor=poor)


def _line(values: Sequence[float | None], width: float, longest: float) -> str:
    """A path through the values; a period without one is a gap in it."""
    steps, drawing = [], False
    for place, value in enumerate(values):
        if value is not None:
            height = HEIGHT - value * HEIGHT / (longest or 1)
            steps.append(f"{'L' if drawing else 'M'}{(place + 0.4) * width:.1f} {height:.1f}")
            if not drawing:
                steps.append("h0.01")  # so that a value between two gaps is a dot
        drawing = value is not None
    return "".join(steps)


def _rate(a_second: float) -> str:
    """A rate in words, a minute, or an hour if that is less than one a minute."""
    if a_second * 60 >= 1:
        return f"{a_second * 60:,.1f} a minute"
    return f"{a_second * 3600:,.1f} an hour"
