"""`reactor status`: whether anything is wrong and what to do, and the figures behind it."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from math import ceil
from typing import TYPE_CHECKING, Any

import anyio
import click

from reactor.cli.failures import line, with_database
from reactor.cli.output import say, say_json
from reactor.database.connections import DatabaseError
from reactor.database.discovery import discover
from reactor.database.table import TableError
from reactor.settings import DatabaseSettings
from reactor.text.foreign import fit_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from reactor.database.session import Session
    from reactor.operations.overview import Overview
    from reactor.operations.pulse import Pulse

    State = tuple[Overview, Pulse | None]

LATELY = 600.0  # seconds of the rate
EVERY = 2.0  # seconds between two looks of --watch
MOST_NAMED = 5  # tokens of one worker, and workers
WORTH_TELLING = 0.01  # of the NOTIFY queue


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts; with --watch one a line.")
@click.option("--watch", is_flag=True, help=f"Look again every {EVERY:g} s, until Ctrl-C.")
def status(*, as_json: bool, watch: bool) -> None:
    """Say whether anything is wrong and what to do; then the tokens by status, the workers, and the gate."""
    settings = DatabaseSettings.load()

    async def look(session: Session) -> State:
        from reactor.operations.overview import overview
        from reactor.operations.pulse import pulse

        table = await discover(session, settings.tokens_table, prompt_sql=settings.prompt_sql)
        kept, budget = settings.history_days > 0, settings.daily_budget
        state = await overview(session, table, history=kept, budget=budget)
        lately = await pulse(session, table, seconds=LATELY)
        return state, None if isinstance(lately, str) else lately

    if not watch:
        state = with_database(settings, look)
        if as_json:
            say_json(_in_json(state))
        else:
            for words in in_lines(*state):
                say(words)
        return

    async def go_on(session: Session) -> None:
        with _screen(as_json=as_json) as show:
            while True:
                try:
                    state = await look(session)
                    show([_in_json(state)] if as_json else in_lines(*state))
                except (DatabaseError, TableError) as error:
                    told = settings.redact(line(error))
                    show([{"error": told}] if as_json else [told])
                await anyio.sleep(EVERY)

    try:
        with_database(settings, go_on)
    except KeyboardInterrupt:
        return  # this is how it is meant to end


@contextmanager
def _screen(*, as_json: bool) -> Iterator[Callable[[Sequence[Any]], None]]:
    """What shows one look after another: in place on a terminal, else one below the other."""
    if as_json or not sys.stdout.isatty():

        def below(shown: Sequence[Any]) -> None:
            for each in shown if as_json else [*shown, ""]:
                (say_json if as_json else say)(each)
            sys.stdout.flush()

        yield below
        return

    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        yield lambda shown: live.update(Text("\n".join(map(fit_line, shown))), refresh=True)


def _in_json(state: State) -> dict[str, Any]:
    shown, lately = state
    return {**shown.as_json(), "rate": lately and _rate(lately)}


def _rate(lately: Pulse) -> dict[str, Any]:
    """What ended lately: attempts by how they ended, and the images a minute."""
    counts = {name: sum(getattr(each, name) for each in lately.periods) for name in ("succeeded", "failed", "again")}
    return {"seconds": LATELY, **counts, "images_per_minute": round(60 * counts["succeeded"] / LATELY, 2)}


def in_lines(state: Overview, lately: Pulse | None) -> list[str]:
    """The state for people: the sentence, a blank line, then a figure a line."""
    return [state.sentence, "", *_figures(state), *_money(state), *([_rate_in_words(lately)] if lately else [])]


def _money(state: Overview) -> Iterator[str]:
    yield _today(state)
    if state.budget.words:
        yield f"{'budget':<12}  {state.budget.words}"


def _today(state: Overview) -> str:
    if state.today is None:
        return f"{'today':<12}  unknown: {state.today_unknown}"
    bought = state.today
    cost = "" if bought.cost is None else f", cost {bought.cost:,.4f}".rstrip("0").rstrip(".")
    wasted = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in bought.as_json["wasted_by"].items())
    why = f" ({wasted})" if wasted else ""
    return f"{'today':<12}{bought.bought:>9,} bought, {bought.used:,} used, {bought.wasted:,} wasted{why}{cost}"


def _rate_in_words(lately: Pulse) -> str:
    rate = _rate(lately)
    ended = f"{rate['failed']:,} failed, {rate['again']:,} repeated, in the last {LATELY / 60:.0f} min"
    return f"{'rate':<12}{rate['images_per_minute']:>9,.1f} images a minute; {ended}"


def _figures(state: Overview) -> Iterator[str]:
    if state.row_security:
        yield f"hidden      {state.row_security}"
    for name, tokens in state.tokens.items():
        yield f"{name:<12}{'about ' * (name in state.estimated)}{tokens:>9,}{_age(state, name)}"
    yield from _workers(state)
    yield f"{'gate':<12}{_gate_in_words(state.intake):>9}"
    if state.next_due_seconds is not None:
        yield f"{'next due':<12}{_due(state.next_due_seconds):>9}"
    if not state.triggers:
        yield f"triggers    {state.triggers_are}: mints wait for the sweep; run: reactor migrate"
    if state.notify_queue_usage >= WORTH_TELLING:
        yield f"NOTIFY queue{state.notify_queue_usage:>9.0%} full"


def _age(state: Overview, status: str) -> str:
    from reactor.operations.verdict import duration

    seconds = {"detected": state.oldest_seconds, "uploading": state.uploading_oldest_seconds}.get(status)
    if seconds is None or not state.tokens[status]:
        return ""
    age = duration(seconds)
    return f"  the oldest has waited for {age}" if status == "detected" else f"  the oldest image is {age} old"


def _workers(state: Overview) -> Iterator[str]:
    from reactor.operations.verdict import duration

    deaf = state.workers - state.listening
    without = f"  {deaf:,} of them without a listener: mints wait for their sweep" if deaf else ""
    yield f"{'workers':<12}{state.workers:>9,}{without}"
    for worker, held in list(state.held.items())[:MOST_NAMED]:
        named = ", ".join(str(token.token_id) for token in held[:MOST_NAMED])
        more = ", …" if len(held) > MOST_NAMED else ""
        longest = max((token.held_for for token in held if token.held_for is not None), default=None)
        since = f", the longest for {duration(longest)}" if longest is not None else ""
        yield f"  {worker or 'another program'} holds {len(held):,}{since}: {named}{more}"
    if len(state.held) > MOST_NAMED:
        yield f"  and {len(state.held) - MOST_NAMED:,} more"


def _due(seconds: float) -> str:
    from reactor.operations.verdict import duration

    return "now" if seconds <= 0 else f"in {duration(seconds)}"


def _gate_in_words(gate: dict[str, Any]) -> str:
    """The gate's state, in words."""
    limit, seconds = gate["limit_per_minute"], gate["resumes_in"]
    if not gate["paused"]:
        return "open" if limit is None else f"open; the account allows {limit:g} creates a minute"
    if seconds is None:
        how = "paused"
    elif seconds > 0:
        how = f"paused for {ceil(seconds):,} s"
    else:
        how = "trying one token at a time"
    return f"{how}: {gate['reason'] or 'no reason given'}"
