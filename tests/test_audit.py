"""The rules of `reactor audit`: what a prediction is, by the listing, the tokens and the history."""

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from reactor.operations.audit import KINDS, UNEXPLAINED, judge, unlisted
from reactor.operations.audit_facts import Ending, Facts, TokenRow
from reactor.operations.audit_reads import Audit
from reactor.providers.walk import Inputs, Listed

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
SINCE = NOW - timedelta(days=1)
RECENT, OLD = NOW - timedelta(minutes=5), NOW - timedelta(hours=3)
HERE = ("public.tokens_s0", "key-1")
_ids = itertools.count(1)


def bought(name="p", *, seed=5, at=RECENT, status="succeeded", forgotten=False, ours=True):
    return Listed(name, at, status, None if forgotten else seed, forgotten, ours and not forgotten, f"https://x/{name}")


def token(status="uploading", *, seed=5, prediction_id="p", at=HERE, seeded_at=RECENT):
    return TokenRow(at=at, token_id="1", status=status, seed=seed, prediction_id=prediction_id, seeded_at=seeded_at)


def ending(outcome="succeeded", prediction_id="p", *, after=0, **given):
    plain = {
        "at": HERE, "token_id": "1", "epoch": 1, "attempt": 1, "error": None, "seed": 5, "bought_at": RECENT,
        "images": 1 if outcome == "succeeded" else None, "cost": None, "ended_at": RECENT + timedelta(seconds=after),
    }  # fmt: skip
    return Ending(id=next(_ids), outcome=outcome, prediction_id=prediction_id, **(plain | given))


def facts(*known, history_since=SINCE, **given):
    tokens = [each for each in known if isinstance(each, TokenRow)]
    endings = [each for each in known if isinstance(each, Ending)]
    return Facts(
        since=SINCE, now=NOW, tokens=tokens, endings=endings, history_since=history_since, **given
    )  # fmt: skip


def kinds(listed, *known, provider_has=(), **given):
    return {each.prediction_id: each.kind for each in judge(listed, facts(*known, **given), provider_has)}


def why(listed, *known, **given):
    return {each.prediction_id: each.why for each in judge(listed, facts(*known, **given))}


# What is in order.


@pytest.mark.parametrize(
    "known",
    [
        (token(),),
        (token("ready"),),
        (token("revealed"), ending()),
        (ending(),),
        (token("detected", prediction_id=None, seed=9), ending()),
        (token("failed", prediction_id="q", seed=9), ending(), ending("failed", "q", epoch=2, seed=9)),
        (ending("rescued"), ending("succeeded", epoch=2)),
        (ending("released"), ending("succeeded", epoch=2)),
        (ending("succeeded"), ending("lost", after=1)),
    ],
    ids=["row", "next stage", "both", "gone", "begun anew", "failed later", "rescued", "released", "zombie's too"],
)
def test_what_was_used_is_in_order(known):
    assert kinds([bought()], *known) == {"p": "used"}


@pytest.mark.parametrize("status", ["detected", "generating"])
@pytest.mark.parametrize("recorded", ["p", None])
@pytest.mark.parametrize("running", ["starting", "processing", "succeeded"])
def test_what_a_token_under_way_has_bought_is_in_order(status, recorded, running):
    assert kinds([bought(status=running)], token(status, prediction_id=recorded)) == {"p": "in_flight"}


def test_a_retry_that_is_to_resume_its_prediction_is_under_way():
    assert kinds([bought()], token("detected"), ending("retry")) == {"p": "in_flight"}


@pytest.mark.parametrize("seed", [5, None])
def test_what_another_program_bought_is_not_ours(seed):
    assert kinds([bought(ours=False, seed=seed)]) == {"p": "not_ours"}


# Bought and not used, with a reason.


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (ending("rejected", error="NSFW"), "its prompt was rejected: NSFW"),
        (ending("failed", error="no such style"), "its token failed: no such style"),
        (ending("retry", images=0, error="it broke"), "it ended without an image that could be used: it broke"),
        (ending("released", images=0), "it ended without an image that could be used"),
        (ending("lost", error="a secret"), "its worker had lost the token by then"),
    ],
    ids=["rejected", "failed", "retry", "released", "lost"],
)
def test_what_was_not_used_has_its_reason(entry, reason):
    assert kinds([bought()], entry) == {"p": "unused"}
    assert why([bought()], entry) == {"p": reason}


def test_a_failed_token_of_a_fleet_without_history_is_reason_enough():
    assert kinds([bought()], token("failed"), history_since=None) == {"p": "unused"}


def test_an_image_that_expired_was_not_used_and_may_be_bought_again():
    known = ending(), ending("expired", attempt=None, images=None, after=1), ending("succeeded", "q", epoch=2, after=2)

    assert kinds([bought("q"), bought("p", at=OLD)], *known, token(prediction_id="q")) == {"q": "used", "p": "unused"}
    assert "expired" in why([bought("p", at=OLD)], *known)["p"]


def test_the_second_purchase_of_an_expired_image_may_be_under_way():
    known = ending(), ending("expired", attempt=None, images=None, after=1), token("generating", prediction_id=None)

    assert kinds([bought("q"), bought("p", at=OLD)], *known) == {"q": "in_flight", "p": "unused"}


def test_a_zombies_second_purchase_of_a_seed_is_explained_by_its_entry():
    known = ending("succeeded", "q", epoch=2), ending("lost", after=1)

    assert kinds([bought("q"), bought("p")], *known) == {"q": "used", "p": "unused"}


def test_a_create_without_an_answer_that_was_believed_to_have_bought_nothing_is_explained():
    known = ending("retry", None, error="no answer to the create"), ending("succeeded", "q", seed=9, epoch=2)

    told = why([bought("q", seed=9), bought("p")], *known)

    assert told["p"] == "nobody learnt of it in time: no answer to the create"
    assert kinds([bought("p")], *known)["p"] == "unused"


@pytest.mark.parametrize("status", ["failed", "canceled", "aborted"])
def test_a_prediction_that_was_given_back_and_ended_without_an_image_is_explained(status):
    known = ending("released"), ending("succeeded", "q", seed=9, epoch=2, after=1)

    assert kinds([bought("p", status=status), bought("q", seed=9)], *known) == {"p": "unused", "q": "used"}


def test_a_prediction_that_was_given_back_to_nobody_is_explained():
    assert kinds([bought()], ending("released")) == {"p": "unused"}


# Unexplained.


@pytest.mark.parametrize(
    "known",
    [
        (token(prediction_id="q"),),
        (ending("succeeded", "q"),),
        (token("generating", prediction_id="q"),),
        (ending("rescued", "q"), ending("succeeded", "q", epoch=2)),
    ],
    ids=["row", "history", "under way", "rescued"],
)
def test_a_second_purchase_for_a_seed_is_found(known):
    found = kinds([bought("p"), bought("q", at=RECENT - timedelta(seconds=9))], *known)

    assert found["p"] == "bought_twice"
    assert found["q"] in {"used", "in_flight"}


def test_a_second_purchase_for_a_seed_is_found_if_the_first_is_older_than_the_audit():
    first = token(prediction_id="q", seeded_at=SINCE - timedelta(seconds=1))

    assert kinds([bought("p")], first) == {"p": "bought_twice"}


def test_of_two_purchases_that_nobody_has_recorded_one_is_too_many():
    found = kinds([bought("p"), bought("q")], token("generating", prediction_id=None))

    assert sorted(found.values()) == ["bought_twice", "in_flight"]
    assert found["p"] == "bought_twice"


def test_two_purchases_for_a_seed_are_too_many_though_both_are_in_the_history():
    known = ending("retry", "p", images=0), ending("succeeded", "q", epoch=2)

    assert kinds([bought("q"), bought("p")], *known) == {"q": "used", "p": "bought_twice"}


def test_two_purchases_of_one_attempt_are_too_many():
    known = ending("retry", "p", images=0), ending("succeeded", "q", seed=9)

    assert kinds([bought("q", seed=9), bought("p")], *known) == {"q": "used", "p": "bought_twice"}


def test_a_rejected_prompt_and_its_fallback_are_two_attempts():
    known = ending("rejected", "p"), ending("succeeded", "q", seed=9, attempt=2)

    assert kinds([bought("q", seed=9), bought("p")], *known) == {"q": "used", "p": "unused"}


def test_a_prediction_that_a_token_did_not_resume_is_found():
    known = ending("rescued", "p"), ending("succeeded", "q", seed=9, epoch=2, after=1)

    assert kinds([bought("q", seed=9), bought("p")], *known) == {"q": "used", "p": "bought_twice"}


def test_a_zombies_purchase_does_not_hide_that_the_recorded_one_was_not_resumed():
    known = ending("rescued", "p"), ending("succeeded", "q", epoch=2, after=1), ending("lost", "p", after=2)

    assert kinds([bought("q"), bought("p")], *known) == {"q": "used", "p": "bought_twice"}


def test_a_purchase_for_no_token_is_found():
    found = kinds([bought("x", seed=7), bought("p")], token(), ending())

    assert found == {"x": "without_token", "p": "used"}


@pytest.mark.parametrize("known", [token(), ending()], ids=["row", "history"])
def test_a_used_prediction_that_the_provider_denies_is_found(known):
    assert kinds([], known) == {"p": "denied"}
    assert kinds([], known, provider_has={"p"}) == {"p": "used"}
    assert kinds([bought()], known) == {"p": "used"}


# Unknown.


@pytest.mark.parametrize(
    "known", [token(seeded_at=OLD), ending(bought_at=OLD)], ids=["row", "history"]
)  # fmt: skip
def test_a_used_prediction_older_than_the_provider_keeps_is_unknown(known):
    assert kinds([], known) == {"p": "unknown"}


@pytest.mark.parametrize(
    "known",
    [
        token(seeded_at=SINCE - timedelta(seconds=1)),
        ending(bought_at=SINCE - timedelta(seconds=1)),
        token("failed"),
        token("generating"),
        token(prediction_id=None),
        ending("failed"),
        ending("succeeded", None),
    ],
)
def test_what_was_bought_before_the_audit_or_not_used_need_not_be_listed(known):
    assert unlisted([], facts(known)) == []


def test_an_expired_prediction_need_not_be_listed():
    assert unlisted([], facts(ending(), ending("expired"))) == []


def test_a_purchase_without_its_seed_that_nothing_names_is_unknown():
    assert kinds([bought(forgotten=True, at=OLD)], ending("succeeded", "q")) == {"p": "unknown", "q": "denied"}


def test_a_purchase_without_its_seed_that_the_history_names_is_known():
    assert kinds([bought(forgotten=True, at=OLD)], ending("rejected")) == {"p": "unused"}


@pytest.mark.parametrize(
    "given",
    [
        {"history_since": None},
        {"history_since": RECENT + timedelta(seconds=1)},
        {"unread": ("public.tokens_s1",)},
        {"seeded": False},
    ],
    ids=["no history", "a young history", "a table that cannot be read", "no seeds"],
)
def test_a_purchase_that_nothing_knows_is_unknown_where_something_could_be_missing(given):
    assert kinds([bought()], **given) == {"p": "unknown"}


def test_only_the_unexplained_is_unexplained():
    judged = judge([bought("a"), bought("b", seed=7), bought("c", forgotten=True)], facts(token(prediction_id="a")))

    assert {each.prediction_id: each.explained for each in judged} == {"a": True, "b": False, "c": None}
    assert {"bought_twice", "without_token", "denied"} == UNEXPLAINED


def test_the_sums_are_of_all_kinds():
    listed = [bought("a"), bought("b", seed=7), bought("c", seed=8)]
    known = (
        ending("succeeded", "a", cost=Decimal("0.003")),
        ending("rejected", "b", seed=7, cost=Decimal("0.001"), epoch=2),
    )
    found = Audit(SINCE, NOW, judge(listed, facts(*known)))

    assert found.counts == dict.fromkeys(KINDS, 0) | {"used": 1, "unused": 1, "without_token": 1}
    assert (found.cost("used"), found.cost("unused"), found.cost("denied")) == (
        Decimal("0.003"),
        Decimal("0.001"),
        None,
    )
    assert not found.ok


def test_what_is_judged_says_where_to_look():
    (judged,) = judge([bought()], facts(ending("rejected", cost=Decimal("0.003"))))

    assert (judged.at, judged.token_id, judged.seed, judged.web_url) == (HERE, "1", 5, "https://x/p")
    assert (judged.status, judged.created_at, judged.cost) == ("succeeded", RECENT, Decimal("0.003"))


# What a worker sends.


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        ({"prompt": "a fox", "seed": 5, "go_fast": True}, True),
        ({"prompt": "a fox", "seed": 5, "go_fast": False}, False),
        ({"prompt": "a fox", "seed": 5}, False),
        ({"prompt": "a fox", "go_fast": True}, False),
        ({"prompt": "a fox", "seed": "5", "go_fast": True}, False),
        ({"prompt": "a fox", "seed": True, "go_fast": True}, False),
        ({"prompt": "a fox", "seed": 2**31, "go_fast": True}, False),
        ({"prompt": "a fox", "seed": 5, "go_fast": True, "width": 1}, False),
        ({}, False),
    ],
)
def test_only_what_a_worker_sends_can_be_ours(given, ours):
    assert Inputs("seed", {"go_fast": True}).are(given) is ours


def test_a_model_without_a_seed_is_known_by_its_other_inputs():
    inputs = Inputs("", {"go_fast": True})

    assert inputs.are({"prompt": "a fox", "go_fast": True})
    assert inputs.seed_of({"seed": 5, "": 5}) is None
