"""Joins the provider's listing with our tables and history: why each prediction was bought, and whether it was used.

The listing says what was bought. The tokens and the history say for which token, by the prediction's id, or else by its
seed, which no two purchases share. What agrees is in order. What was bought and not used has its reason in the history.
What nobody can know any more is `unknown`: it is counted apart, not as explained. The rest is unexplained.

Everything here is computed from frozen values, which `audit_reads.py` reads.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from reactor.operations.audit_facts import Index
from reactor.operations.verdict import PROVIDER_KEEPS
from reactor.tokens import UNFINISHED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime
    from decimal import Decimal

    from reactor.operations.audit_facts import Ending, Facts, Place, TokenRow
    from reactor.providers.walk import Listed

Kind = Literal["used", "in_flight", "unused", "bought_twice", "without_token", "denied", "unknown", "not_ours"]
KINDS: tuple[Kind, ...] = (
    "used", "in_flight", "unused", "bought_twice", "without_token", "denied", "unknown", "not_ours",
)  # fmt: skip
IN_ORDER: frozenset[Kind] = frozenset({"used", "in_flight", "not_ours"})
UNEXPLAINED: frozenset[Kind] = frozenset({"bought_twice", "without_token", "denied"})
_NO_IMAGE = {"failed", "canceled", "aborted"}  # how a prediction ends without one
_REASONS = {
    "rejected": "its prompt was rejected",
    "failed": "its token failed",
    "lost": "its worker had lost the token by then",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A prediction, and what is known of it. Its texts are not made fit to be shown."""

    prediction_id: str
    kind: Kind
    why: str
    at: Place | None = None
    token_id: str | None = None
    seed: int | None = None
    status: str | None = None  # the provider's
    created_at: datetime | None = None
    web_url: str | None = None
    cost: Decimal | None = None

    @property
    def explained(self) -> bool | None:
        """Whether it is known why it was bought and what became of it; None: nobody can know."""
        return None if self.kind == "unknown" else self.kind not in UNEXPLAINED


def judge(listed: Sequence[Listed], facts: Facts, known: Collection[str] = ()) -> list[Judged]:
    """Judge each listed prediction, and each used one that the listing lacks.

    `known`: those of `unlisted` that the provider has, although its listing lacks them.
    """
    index = Index.of(facts)
    judged = {each.id: _judged(each, index, facts) for each in listed}
    judged |= _second_purchases(judged, _by_seed(listed), index)
    for each in unlisted(listed, facts):
        judged[each.prediction_id] = each if each.prediction_id in known else _denied(each, facts)
    return list(judged.values())


def unlisted(listed: Sequence[Listed], facts: Facts) -> list[Judged]:
    """The predictions that were used, bought in the time of the audit, and are not in the listing."""
    used: dict[str, Judged] = {}
    for ending in facts.endings:
        bought_at = ending.bought_at or ending.ended_at
        if ending.outcome == "succeeded" and ending.prediction_id and bought_at >= facts.since:
            used[ending.prediction_id] = replace(_used(ending.prediction_id, ending, bought_at), cost=ending.cost)
    for token in facts.tokens:
        seeded_at = token.seeded_at
        if token.uses and token.prediction_id and seeded_at is not None and seeded_at >= facts.since:
            used.setdefault(token.prediction_id, _used(token.prediction_id, token, seeded_at))
    there = {each.id for each in listed} | {each.prediction_id for each in facts.endings if each.outcome == "expired"}
    return [each for name, each in used.items() if name not in there]


def _used(name: str, by: TokenRow | Ending, at: datetime) -> Judged:
    return Judged(
        prediction_id=name, kind="used", why="used", at=by.at, token_id=by.token_id, seed=by.seed, created_at=at
    )


def _denied(each: Judged, facts: Facts) -> Judged:
    """A used prediction that the provider does not know."""
    if each.created_at is None or facts.now - each.created_at > timedelta(seconds=PROVIDER_KEEPS):
        return replace(each, kind="unknown", why="used, and older than the provider certainly keeps a prediction")
    return replace(each, kind="denied", why="used, but the provider knows no such prediction")


def _judged(each: Listed, index: Index, facts: Facts) -> Judged:
    token, endings = index.tokens_by_id.get(each.id), index.endings_by_id.get(each.id, [])
    if token is not None or endings:
        kind, why = _named(each, token, endings, index)
    elif each.seed is not None and (each.seed in index.tokens_by_seed or each.seed in index.endings_by_seed):
        token, endings = index.tokens_by_seed.get(each.seed), index.endings_by_seed.get(each.seed, [])
        kind, why = _seeded(token, endings, index)
    else:
        kind, why = _stranger(each, facts)
    by: TokenRow | Ending | None = token or (endings[-1] if endings else None)
    return Judged(
        prediction_id=each.id,
        kind=kind,
        why=why,
        at=by.at if by else None,
        token_id=by.token_id if by else None,
        seed=each.seed if each.seed is not None or by is None else by.seed,
        status=each.status,
        created_at=each.created_at,
        web_url=each.web_url,
        cost=next((ending.cost for ending in endings if ending.cost is not None), None),
    )


def _named(each: Listed, token: TokenRow | None, endings: Sequence[Ending], index: Index) -> tuple[Kind, str]:
    """A prediction that a row or the history names."""
    if each.id in index.expired:
        return "unused", "its image expired before the next stage took it"
    if any(ending.outcome == "succeeded" for ending in endings) or (token and token.uses):
        return "used", "used"
    if token and token.status in UNFINISHED:
        return "in_flight", f"its token is {token.status}"
    concluding = [ending for ending in endings if ending.concludes]
    if endings and not concluding:
        return _given_back(each, endings[-1], index)
    return "unused", _reason(concluding[-1]) if concluding else "its token failed"


def _given_back(each: Listed, last: Ending, index: Index) -> tuple[Kind, str]:
    """A prediction that the next claim of its token should have resumed, and that is not in the token's row."""
    if each.status in _NO_IMAGE:
        return "unused", f"it was given back, and then {each.status}"
    later = [ending for ending in index.endings_by_token[last.at] if ending.ended_at > last.ended_at]
    if any(ending.prediction_id not in {None, each.id} for ending in later):
        return "bought_twice", "its token did not resume it, and bought another"
    return "unused", "it was given back, and nobody has taken it up again"


def _reason(ending: Ending) -> str:
    why = _REASONS.get(ending.outcome, "it ended without an image that could be used")
    return f"{why}: {ending.error}" if ending.error and ending.outcome != "lost" else why


def _seeded(token: TokenRow | None, endings: Sequence[Ending], index: Index) -> tuple[Kind, str]:
    """A prediction that no row and no entry names, but with a seed of ours: a create without an answer bought it."""
    others = {ending.prediction_id for ending in endings if ending.outcome != "lost"}
    others |= {token.prediction_id} if token else set()
    if others := others - index.expired - {None}:
        return "bought_twice", f"with its seed, prediction {min(map(str, others))} was bought too"
    if token and token.status in UNFINISHED:
        return "in_flight", f"its token is {token.status}, and has yet to learn of it"
    unanswered = [ending for ending in endings if ending.prediction_id is None]
    if unanswered:
        return "unused", f"nobody learnt of it in time: {unanswered[-1].error or unanswered[-1].outcome}"
    return "unused", "its token was ended by somebody else meanwhile"


def _stranger(each: Listed, facts: Facts) -> tuple[Kind, str]:
    """A prediction that nothing of ours knows."""
    old = facts.history_since and each.created_at and each.created_at < facts.history_since
    cases: tuple[tuple[object, Kind, str], ...] = (
        (each.forgotten, "unknown", "the provider has removed its seed, and nothing of ours names it"),
        (not each.ours, "not_ours", "another program on the account bought it"),
        (not facts.seeded, "unknown", "the model takes no seed, by which it could be known"),
        (facts.history_since is None, "unknown", "there is no history that could name it"),
        (old, "unknown", "it is older than the history"),
        (facts.unread, "unknown", f"not all tables could be read: {', '.join(facts.unread)}"),
        (True, "without_token", "it looks as if a worker bought it, and no token and no history knows its seed"),
    )
    return next((kind, why) for applies, kind, why in cases if applies)


def _by_seed(listed: Iterable[Listed]) -> dict[int, list[str]]:
    """The predictions of each seed, the oldest first as far as the listing tells."""
    ids: dict[int, list[str]] = defaultdict(list)
    for each in listed:
        if each.seed is not None:
            ids[each.seed].insert(0, each.id)  # the newest is listed first
    return ids


def _second_purchases(judged: dict[str, Judged], by_seed: dict[int, list[str]], index: Index) -> dict[str, Judged]:
    """The extra predictions, where a seed or an attempt should have bought only one."""
    by_attempt: dict[tuple[Place, int, int], list[str]] = defaultdict(list)
    for name, endings in index.endings_by_id.items():
        for ending in endings:
            if ending.attempt is not None and ending.outcome not in {"lost", "rescued"} and name in judged:
                by_attempt[ending.at, ending.epoch, ending.attempt].append(name)
    again: dict[str, Judged] = {}
    for what, groups in (("seed", by_seed.values()), ("attempt", by_attempt.values())):
        for names in groups:
            claims = [judged[name] for name in dict.fromkeys(names) if _claims(judged[name], index)]
            if len(claims) > 1:
                first = next((each for each in claims if each.kind == "used"), claims[0])
                why = f"for its {what}, prediction {first.prediction_id} was bought too"
                again |= {
                    each.prediction_id: replace(each, kind="bought_twice", why=why)
                    for each in claims
                    if each is not first
                }
    return again


def _claims(each: Judged, index: Index) -> bool:
    """Whether its seed or its attempt should have bought nothing else.

    An expired purchase was repeated on purpose. A purchase by a worker that had lost its token is a known, small risk.
    """
    outcomes = {ending.outcome for ending in index.endings_by_id.get(each.prediction_id, [])}
    late = "lost" in outcomes and not outcomes & {"succeeded", "rescued", "retry", "failed", "rejected", "released"}
    return each.kind in {"used", "in_flight", "unused"} and each.prediction_id not in index.expired and not late
