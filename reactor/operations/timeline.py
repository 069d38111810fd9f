"""A token's story in words, moment by moment, for the commands, the page and the API alike."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from reactor.operations.history import MOST
from reactor.operations.verdict import PROVIDER_KEEPS, duration
from reactor.tokens import known_as

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reactor.operations.history import Entry
    from reactor.operations.story import Story

ROW = (  # what a story tells of the row
    "token_id", "key", "status", "minted_at", "image_url", "attempts", "error", "due_at", "lease_ends_at", "epoch",
    "worker", "seed", "prediction_id", "censored", "rescues", "prompt_characters",
)  # fmt: skip
_LAST = datetime.max.replace(tzinfo=UTC)
_ENDS = {"succeeded", "failed"}  # outcomes after which the token begins anew only if somebody resets it
_LATE = {"lost", "expired"}  # outcomes of entries that end no attempt of the token


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened to a token. `at`: None if its time is not known. Only the page uses the other fields."""

    at: datetime | None
    words: str
    kind: str = ""  # the outcome of the entry that ended an attempt or a purchase
    link: str | None = None  # the end of `words`: what the provider says is the prediction's page
    receipt: str = ""  # the end of `words`: what is known of the prediction once it has ended


@dataclass(frozen=True, slots=True)
class Step:
    """An entry of the token's history, and how its attempt began."""

    entry: Entry
    waited: float | None  # seconds until it was claimed: since the mint, or since the end of the attempt before it
    reset: bool  # the attempt before it had settled the token, so somebody began the token anew by hand


def steps(story: Story) -> list[Step]:
    """The entries of the history in the order in which they ended."""
    found: list[Step] = []
    before: Entry | None = None
    for entry in sorted(story.history or (), key=lambda each: (each.ended_at, each.id)):
        begins = entry.outcome not in _LATE and (before is None or before.epoch != entry.epoch)
        since = story.minted_at if before is None else before.ended_at
        waited = _between(since, entry.claimed_at) if begins else None
        found.append(Step(entry, waited, begins and before is not None and before.outcome in _ENDS))
        before = before if entry.outcome == "lost" else entry
    return found


def purchases(story: Story) -> list[Entry]:
    """The token's purchases, each as the entry that knows most of it: a purchase is one prediction."""
    known: dict[str, Entry] = {}
    for entry in (step.entry for step in steps(story)):
        before = known.get(entry.prediction_id or "")
        if entry.prediction_id and (before is None or before.images is None):
            known[entry.prediction_id] = entry
    return list(known.values())


def cost_of(story: Story) -> Decimal | None:
    """What the token's purchases cost, as far as that is known; None: nothing is known."""
    costs = [entry.cost for entry in purchases(story) if entry.cost is not None]
    return sum(costs, Decimal(0)) if costs else None


def headline(story: Story) -> str:
    """How the token is, why, and what it has cost."""
    how = {
        "detected": "waits for a worker",
        "generating": f"is being made by worker {story.worker}",
        "uploading": "has its image, which waits for the next stage",
        "failed": f"failed: {story.error or 'no reason given'}",
    }.get(story.status, f"is {story.status}: the next stage has taken its image")
    if story.status == "detected" and story.error:
        how = f"waits for its next attempt, after: {story.error}"
    return f"Token {story.token_id} {how.rstrip('.')}. {bill(story)}"


def bill(story: Story) -> str:
    """What the token has bought, and what that cost."""
    if story.history is None:
        return "This role may not read the history."
    entries, known = purchases(story), cost_of(story)
    if not entries:
        unrecorded = f"Prediction {story.prediction_id} is not in the history." if story.prediction_id else ""
        return unrecorded or "Nothing was bought, as far as the history tells."
    bought = f"Bought {_count(len(entries), 'prediction')}"
    images = sum(entry.images or 0 for entry in entries)
    seconds = sum(entry.predict_seconds or 0.0 for entry in entries)
    cost = "no known cost (PRICE_PER_IMAGE is not set)" if known is None else f"cost {known:f}"
    return f"{bought}: {_count(images, 'image')}, {seconds:.1f} s of the model, {cost}."


def timeline(story: Story) -> list[Moment]:
    """What happened to the token, the oldest first."""
    told = list(_told(story))
    ordered = sorted(told, key=lambda moment: moment.at or _LAST)
    return [*ordered, *_now(story)]


def story_json(story: Story) -> dict[str, Any]:
    """The story as an object of JSON. Of the prompt it tells only the length."""
    told = {name: getattr(story, name) for name in ROW} | {
        "summary": headline(story),
        "purchases": len(purchases(story)),
        "cost": cost_of(story),
        "attempts_ended": None if story.history is None else [_step_json(step) for step in steps(story)],
        "timeline": [{"at": moment.at, "words": moment.words} for moment in timeline(story)],
    }
    return {name: _plain(value) for name, value in told.items()}


def _step_json(step: Step) -> dict[str, Any]:
    entry = step.entry
    numbers = {name: known_as(getattr(entry, name), entry.key) for name in ("id", "epoch")}
    return (
        entry.as_json | numbers | {"worker": _worker(entry), "waited_seconds": step.waited, "begun_by_hand": step.reset}
    )


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return _aware(value).isoformat()
        case Decimal():
            return float(value)
        case dict():
            return {name: _plain(each) for name, each in value.items()}
        case list():
            return [_plain(each) for each in value]
        case _:
            return value


def _worker(entry: Entry) -> str | None:
    """The worker's key, without the sign that says whether its listener was proven."""
    return None if entry.worker is None else str(abs(entry.worker))


def _told(story: Story) -> Iterator[Moment]:
    if story.minted_at is not None:
        yield Moment(_aware(story.minted_at), "minted")
    epochs: set[int | str] = set()
    predictions: set[str] = set()
    for step in steps(story):
        entry = step.entry
        if step.reset:
            yield Moment(entry.claimed_at, "begun anew by hand: its status was set back to detected")
        if entry.claimed_at is not None and entry.epoch not in epochs:
            waited = "" if step.waited is None else f", after a wait of {_seconds(step.waited)}"
            yield Moment(entry.claimed_at, f"claimed by worker {_worker(entry)} (epoch {entry.epoch}){waited}")
        epochs.add(entry.epoch)
        if entry.prediction_id and entry.prediction_id not in predictions:
            predictions.add(entry.prediction_id)
            yield Moment(entry.bought_at or entry.ended_at, _bought(entry), link=entry.web_url or None)
        receipt = _receipt(entry)
        yield Moment(entry.ended_at, f"{_ended(entry)}{receipt}", entry.outcome, receipt=receipt)


def _bought(entry: Entry) -> str:
    prompt = " and the fallback prompt" if entry.censored else ""
    page = f": {entry.web_url}" if entry.web_url else ""
    return f"bought prediction {entry.prediction_id} with seed {entry.seed}{prompt}{page}"


def _ended(entry: Entry) -> str:
    attempt = "the attempt" if entry.attempt is None else f"attempt {entry.attempt}"
    why = "no reason given" if entry.error is None else entry.error
    kind = f" ({entry.error_type})" if entry.error_type else ""
    return {
        "succeeded": f"{attempt} succeeded: the image is there",
        "retry": f"{attempt} failed, and is to be repeated: {why}{kind}",
        "failed": f"{attempt} failed for good: {why}{kind}",
        "released": f"{attempt} was given back, which counts nothing: {why}{kind}",
        "rejected": f"{attempt} was rejected, and went on with the fallback prompt: {why}{kind}",
        "rescued": f"worker {_worker(entry)} died (epoch {entry.epoch}), and another one took the token over",
        "lost": f"worker {_worker(entry)} (epoch {entry.epoch}) had lost the token, so its result was dropped",
        "expired": f"begun anew by `reactor retry --expired`: {why}",
    }.get(entry.outcome, entry.outcome)


def _receipt(entry: Entry) -> str:
    """What the entry tells of its prediction; '' if the prediction had not ended."""
    if entry.prediction_id is None or entry.images is None or entry.outcome == "expired":  # the attempt ended before it
        return ""
    ran = "" if entry.predict_seconds is None else f"ran {_seconds(entry.predict_seconds)}, "
    cost = "" if entry.cost is None else f", cost {entry.cost:f}"
    return f"; prediction {entry.prediction_id} {ran}{_count(entry.images, 'image')}{cost}"


def _now(story: Story) -> Iterator[Moment]:
    """How the token is now, and what is known of the stage after us."""
    history = story.history or ()
    last = max(history, key=lambda each: (each.ended_at, each.id), default=None)
    if len(history) >= MOST:
        yield Moment(None, "older entries of the history are not shown")
    if story.status == "detected":
        again = story.due_at is None and last is not None and last.outcome in _ENDS
        due = None if story.due_at is None else _aware(story.due_at)
        waits = "now: begun anew by hand, and waits for a worker" if again else "now: waits for a worker"
        yield Moment(None, waits if due is None else f"now: is due for its next claim at {due:%Y-%m-%d %H:%M:%S}")
    elif story.status == "generating":
        bought = f", and has bought prediction {story.prediction_id}" if story.prediction_id else ""
        yield Moment(None, f"now: worker {story.worker} (epoch {story.epoch}) makes it with seed {story.seed}{bought}")
    elif story.status == "uploading":
        yield Moment(None, f"now: the image waits for the next stage{_until_it_expires(story)}")
    elif story.status != "failed":
        yield Moment(None, f"now: the next stage has set it to {story.status}; when, is not known")


def _until_it_expires(story: Story) -> str:
    """For how long the provider still keeps the image, counted from the intent to buy it."""
    if story.caption.image_for is None:
        return ""
    left = PROVIDER_KEEPS - story.caption.image_for
    return f", and leaves the provider in {duration(left)}" if left > 0 else "; it may have left the provider"


def _between(since: datetime | None, until: datetime | None) -> float | None:
    """Seconds; None if a time is unknown or infinite."""
    if since is None or until is None or since.tzinfo is None:  # the driver gives an infinite time without a zone
        return None
    return max(0.0, (until - since).total_seconds())


def _aware(at: datetime) -> datetime:
    """The time with its zone, which an infinite one lacks."""
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else duration(seconds)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
