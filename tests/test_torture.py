"""The plan of the torture, and the faults that its audit detects."""

import pytest
from torture.accounts import Accounts, compared
from torture.audit import audit, legal
from torture.history import Write
from torture.plan import FALLBACK, events, mints, prompts
from torture.profiles import PROFILES
from torture.rescues import Kill, rescues

CLAIM = {"old_status": "detected", "new_status": "generating", "old_epoch": 0, "new_epoch": 1, "new_worker": 71}
SETTLE = {
    "old_status": "generating", "new_status": "uploading", "old_epoch": 1, "new_epoch": 1, "old_worker": 71,
    "new_prediction": "p1",
}  # fmt: skip
RESCUE = {
    "old_status": "generating", "new_status": "generating", "old_epoch": 1, "new_epoch": 2, "old_worker": 71,
    "new_worker": 72,
}  # fmt: skip


def write(at=0.0, process=1, **columns):
    given = dict.fromkeys(Write.__dataclass_fields__) | {"attempts": 0, "old_seed": 5, "new_seed": 5, "token_id": 1}
    return Write(**(given | {"at": at, "process": process} | columns))


def bought(name="p1", status="succeeded", *, at=1.0, prompt="picture 1", seed=5):
    return {"id": name, "status": status, "prompt": prompt, "seed": seed, "requested_at": at, "finished_at": at + 1}


def faults(*writes, ledger=(), status="uploading", doomed=()):
    row = {
        "token_id": 1, "status": status, "image_url": "https://pictures/p1/0.webp", "generation_error": None,
        "generation_prediction_id": "p1",
    }  # fmt: skip
    found = audit(
        {1: row}, {1: list(writes)}, list(ledger), prompts={1: "picture 1"}, doomed=set(doomed), keys={1: 71, 2: 72}
    )
    return {kind for kind, blamed in found.faults.items() if blamed}


def test_the_same_seed_is_the_same_plan():
    profile = PROFILES["full"]

    assert events(profile, 3) == events(profile, 3) != events(profile, 4)
    assert prompts(profile, 3) == prompts(profile, 3) != prompts(profile, 4)
    assert [token_id for mint in mints(profile, 3) for token_id in mint.token_ids] == list(range(1, 10_001))


def test_the_full_plan_is_what_was_asked_for():
    kinds = [event.kind for event in events(PROFILES["full"], 3)]

    assert kinds.count("kill") + kinds.count("stop") >= 200
    assert kinds.count("stop") >= 20
    assert kinds.count("restart") >= 6
    assert all(event.seconds > PROFILES["full"].lease for event in events(PROFILES["full"], 3) if event.kind == "stop")


def test_the_audit_has_nothing_to_say_of_a_token_that_was_bought_and_settled_once():
    assert faults(write(**CLAIM), write(**SETTLE), ledger=[bought()]) == set()


def test_the_audit_has_nothing_to_say_of_a_retry_and_a_fallback():
    ledger = [
        bought("p8", "canceled", at=1),
        bought("p9", "failed", at=3),
        bought("p1", prompt=FALLBACK, at=5),
    ]

    assert faults(write(**CLAIM), write(**SETTLE), ledger=ledger) == set()


def test_the_audit_tells_of_a_lost_token():
    assert faults(write(**CLAIM), status="generating", ledger=[bought()]) == {"lost"}


def test_the_audit_tells_of_a_token_that_failed_without_cause():
    assert "failed wrongly" in faults(write(**CLAIM), write(**SETTLE), ledger=[bought()], doomed=[1])


def test_the_audit_tells_of_two_settlements():
    again = {**SETTLE, "old_status": "uploading"}

    told = faults(write(**CLAIM), write(**SETTLE), write(**again), ledger=[bought()])

    assert "illegal transitions" in told
    assert "settled twice" in faults(write(**CLAIM), write(**SETTLE), write(**SETTLE), ledger=[bought()])


def test_the_audit_tells_of_a_zombie_that_settles_another_ones_token():
    zombies = {**SETTLE, "old_epoch": 2, "new_epoch": 2, "old_worker": 72}

    assert faults(write(**CLAIM), write(process=2, **RESCUE), write(**zombies), ledger=[bought()]) == {"fences broken"}


@pytest.mark.parametrize(
    "ledger",
    [
        [bought("p2"), bought("p1", at=5)],
        [bought("p2", "failed", at=1), bought("p1", at=1.5)],
        [bought("p1"), bought("p2", at=5)],
        [bought("p1"), bought("p2", prompt="picture 9", at=5)],
    ],
    ids=["after an image", "before the other ended", "and not used", "for nobody"],
)
def test_the_audit_tells_of_a_second_purchase(ledger):
    assert "bought twice" in faults(write(**CLAIM), write(**SETTLE), ledger=ledger)


@pytest.mark.parametrize(
    "changed",
    [
        {"old_status": "detected"},
        {"new_worker": 71},
        {"new_epoch": 2},
        {"new_prediction": None},
    ],
)
def test_the_audit_knows_the_legal_end(changed):
    assert legal(write(**SETTLE))
    assert not legal(write(**(SETTLE | changed)))


def test_a_rescue_is_measured_from_the_kill():
    writes = {1: [write(at=10.0, **CLAIM), write(at=16.5, process=2, **RESCUE)]}

    measured = rescues([Kill(12.0, 1, linked=True)], writes, [], 10.0)

    assert measured.counted == [4.5]
    assert not measured.late


def test_a_token_that_runs_again_after_the_limit_is_late():
    writes = {1: [write(at=10.0, **CLAIM), write(at=22.5, process=2, **RESCUE)]}

    assert rescues([Kill(12.0, 1, linked=True)], writes, [], 10.0).late
    assert not rescues([Kill(12.0, 1, linked=True)], writes, [], 11.0).late


def test_a_token_that_nobody_takes_over_is_late():
    measured = rescues([Kill(12.0, 1, linked=True)], {1: [write(at=10.0, **CLAIM)]}, [], float("inf"))

    assert measured.late


def test_a_rescue_is_not_measured_where_every_worker_was_cut_off():
    writes = {1: [write(at=10.0, **CLAIM), write(at=26.5, process=2, **RESCUE)]}

    measured = rescues([Kill(12.0, 1, linked=True)], writes, [(13.0, 14.0)], 10.0)

    assert (measured.counted, measured.late) == ([], [])
    assert list(measured.excused.values()) == [[14.5]]


# What the reactor's own accounts say, compared with the ledger.

UNUSED = {"prediction_id": "p2", "kind": "unused", "explained": True}
TWICE = {"prediction_id": "p3", "kind": "bought_twice", "explained": False}
COUNTS = {"used": 1, "unused": 1, "bought_twice": 0, "not_ours": 0}
TODAY = {"bought": 2, "used": 1, "wasted": 1, "wasted_by": {"failed": 1}, "cost": 0.003}


def audited(*named, ok=True, counts=COUNTS, cost="0.003"):
    return {
        "ok": ok, "exit_code": 0 if ok else 1, "counts": counts, "cost": {"used": cost}, "predictions": list(named),
    }  # fmt: skip


def differences(**changed):
    told = {
        "audited": audited(UNUSED),
        "replanted": audited(UNUSED, TWICE, ok=False, counts=COUNTS | {"not_ours": 1}),
        "status": {"today": TODAY},
        "used": frozenset({"p1"}),
        "same_day": True,
        "planted": {"p3": "bought_twice", "p4": "not_ours"},
    }
    ledger = [bought("p1"), bought("p2", "failed")]
    return {kind for kind, blamed in compared(Accounts(**(told | changed)), ledger).items() if blamed}


def test_accounts_that_agree_with_the_ledger_have_no_difference():
    assert differences() == set()


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"audited": audited(UNUSED, TWICE, ok=False)}, "audit and ledger differ"),
        ({"audited": audited()}, "audit and ledger differ"),
        ({"audited": audited(UNUSED, counts=COUNTS | {"unknown": 1})}, "audit and ledger differ"),
        ({"audited": audited(UNUSED) | {"exit_code": 1}}, "audit and ledger differ"),
        ({"audited": audited(UNUSED, cost="0.006")}, "sums differ"),
        ({"status": {"today": TODAY | {"bought": 3}}}, "sums differ"),
        ({"status": {"today": TODAY | {"used": 0}}}, "sums differ"),
        ({"status": {"today": TODAY | {"wasted": 2}}}, "sums differ"),
        ({"status": {"today": TODAY | {"cost": 0.0}}}, "sums differ"),
        ({"replanted": audited(UNUSED)}, "planted, and not found"),
        ({"replanted": audited(UNUSED, TWICE, ok=False)}, "planted, and not found"),
        ({"planted": {"p3": "denied", "p4": "not_ours"}}, "planted, and not found"),
    ],
)
def test_accounts_that_differ_from_the_ledger_are_told(changed, kind):
    assert differences(**changed) == {kind}


def test_after_midnight_today_is_not_all_of_it():
    assert differences(same_day=False, status={"today": TODAY | {"bought": 1}}) == set()
