"""`reactor audit`: whether everything that was bought is explained."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from reactor.cli.durations import Duration
from reactor.cli.failures import with_database
from reactor.cli.output import say, say_json
from reactor.database.discovery import discover
from reactor.errors import GenerationError
from reactor.settings import Settings
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from reactor.database.session import Session
    from reactor.operations.audit import Judged, Kind
    from reactor.operations.audit_reads import Audit

MOST_NAMED = 20  # predictions of one kind that people are shown
MOST_REASONS = 10
_IN_WORDS: dict[Kind, str] = {
    "used": "used",
    "in_flight": "under way",
    "unused": "bought and not used",
    "bought_twice": "BOUGHT TWICE",
    "without_token": "BOUGHT FOR NO TOKEN",
    "denied": "USED, BUT UNKNOWN TO THE PROVIDER",
    "unknown": "unknown: nobody can tell any more",
    "not_ours": "not ours: bought by another program",
}


@click.command()
@click.option("--since", type=Duration(), default="24h", show_default=True, help="How far to look back, as 24h or 7d.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with each prediction that is not in order.")
def audit(*, since: float, as_json: bool) -> None:
    """Say why each prediction on the provider's listing was bought, and whether it was used.

    Exit code 1 if something is unexplained. Run it with a worker's environment. It reads the listing slowly, 500
    predictions a second. The provider removes inputs after an hour, so run it more often to know more.
    """
    settings = Settings.load()

    from reactor.operations.audit_reads import audit as look
    from reactor.providers.replicate import ReplicateProvider
    from reactor.providers.walk import GENTLE, Inputs

    async def work(session: Session) -> Audit:
        table = await discover(session, settings.tokens_table, prompt_sql=settings.prompt_sql)
        provider = ReplicateProvider(
            settings.secret("replicate_api_token"),
            model=settings.replicate_model_version,
            base_url=settings.replicate_base_url,
            api_prefix=settings.replicate_api_prefix,
            limits=GENTLE,
        )
        inputs = Inputs(settings.replicate_seed_input, settings.replicate_model_input)
        try:
            return await look(session, table, provider, inputs, since)
        except GenerationError as error:
            told = settings.redact(message_of(error))
            raise click.ClickException(f"the provider's listing cannot be read: {told}") from error
        finally:
            await provider.aclose()

    found = with_database(settings, work)
    if as_json:
        say_json(in_json(found))
    else:
        for words in _in_lines(found):
            say(words)
    sys.exit(not found.ok)


def in_json(found: Audit) -> dict[str, Any]:
    """The audit as an object of JSON. Costs are texts, so they stay exact."""
    return {
        "ok": found.ok,
        "since": found.since.isoformat(),
        "until": found.until.isoformat(),
        "counts": found.counts,
        "cost": {
            "used": _exactly(found.cost("used")),
            "wasted": _exactly(found.cost("unused", "bought_twice", "without_token")),
        },
        "predictions": [_in_json(each) for each in found.judged if each.kind not in {"used", "in_flight", "not_ours"}],
    }


def _in_json(each: Judged) -> dict[str, Any]:
    return {
        "prediction_id": each.prediction_id,
        "kind": each.kind,
        "explained": each.explained,
        "why": each.why,
        "token_id": each.token_id,
        "tokens_table": each.at and each.at[0],
        "key": each.at and each.at[1],
        "seed": each.seed,
        "status": each.status,
        "created_at": each.created_at and each.created_at.isoformat(),
        "web_url": each.web_url,
        "cost": _exactly(each.cost),
    }


def _exactly(cost: Decimal | None) -> str | None:
    return None if cost is None else f"{cost:f}"


def _in_lines(found: Audit) -> Iterator[str]:
    answers, total = Counter(each.explained for each in found.judged), len(found.judged)
    of_all = f"of {total:,} predictions since {found.since:%Y-%m-%d %H:%M} UTC are"
    unknown = f", {answers[None]:,} unknown" if answers[None] else ""
    if answers[False]:
        yield f"{answers[False]:,} {of_all} unexplained{unknown}."
    elif unknown:
        yield f"{answers[True]:,} {of_all} explained{unknown}."
    else:
        yield f"All {of_all.removeprefix('of ')} explained."
    yield ""
    for kind, count in found.counts.items():
        if count:
            yield f"{count:>9,}  {_IN_WORDS[kind]}"
            yield from _details([each for each in found.judged if each.kind == kind], kind)


def _details(judged: list[Judged], kind: Kind) -> Iterator[str]:
    from reactor.operations.audit import UNEXPLAINED
    from reactor.operations.causes import cause_of

    if kind in UNEXPLAINED:
        for each in judged[:MOST_NAMED]:
            token = "" if each.token_id is None else f", token {each.token_id} (see: reactor show {each.token_id})"
            page = f"; {each.web_url}" if each.web_url else ""
            yield f"{'':>11}prediction {each.prediction_id}{token}: {each.why}{page}"
        if (more := len(judged) - MOST_NAMED) > 0:
            yield f"{'':>11}and {more:,} more: see --json"
    elif kind in {"unused", "unknown"}:
        for why, times in Counter(cause_of(each.why) for each in judged).most_common(MOST_REASONS):
            yield f"{'':>11}{times:,}  {why}"
