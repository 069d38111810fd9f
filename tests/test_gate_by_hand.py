"""Whatever somebody writes into the gate's row, claims go on or the gate gives a reason, and no statement fails."""

import itertools

import pytest

pytestmark = pytest.mark.anyio

MOMENTS = (
    "NULL",
    "'infinity'",
    "'-infinity'",
    "now() + interval '1 hour'",
    "now() - interval '1 hour'",
    "'0001-01-01 BC'",
)
NUMBERS = ("0", "-1", "1e300", "'NaN'", "'Infinity'", "'-Infinity'", "1e-300", "5")
ROWS = [
    *(f"paused_until = {until}, opens_on = {on}, pause_seconds = {seconds}"
      for until, on, seconds in itertools.product(MOMENTS, ("NULL", "'image'", "'check'", "'time'"), NUMBERS)),
    *(f"arrival_at = {moment}" for moment in MOMENTS),
    *(f"limited_until = {until}, limit_interval = {interval}"
      for until, interval in itertools.product(MOMENTS, ("NULL", *NUMBERS))),
    *(f"paused_until = 'infinity', opens_on = 'check', refused_token = 'mark', check_at = {at}, check_wait = {wait}"
      for at, wait in itertools.product(MOMENTS, ("NULL", *NUMBERS))),
    *(f"refused_token = 'mark', check_at = {at}, check_wait = {wait}"
      for at, wait in itertools.product(MOMENTS, ("NULL", *NUMBERS))),
    *(f"paused_until = now(), reason = {reason}" for reason in ("NULL", "''", "repeat('x', 100000)")),
]  # fmt: skip
SAFE = "paused_until = NULL, pause_seconds = 0, opens_on = NULL, arrival_at = NULL, limited_until = NULL, reason = NULL"
SAFE += ", refused_token = NULL, check_wait = NULL, check_at = NULL"
STATEMENTS = {
    "next_due": (0.1,),
    "gauges": ("public.tokens_s0",),
    "half_open_gate": ("wake",),
    "pause_gate": (5.0, "429", True, "create"),
    "refuse_gate": ("mark", "refused", 20.0),
    "prove_gate": ("mark",),
    "limit_gate": (10.0,),
    "open_gate": ("create", None, "wake"),
    "pause": ("by hand", 5.0),
    "resume": ("wake",),
}


async def test_no_value_set_by_hand_stops_claims_unseen(connection, ask, make_token):
    await make_token()
    silent = []
    for row in ROWS:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(f"UPDATE reactor.intake SET {SAFE}")
        await connection.execute(f"UPDATE reactor.intake SET {row}")
        ((paused, _, resumes_in, *_),) = await ask("gate_state")
        claimed = await ask("claim", 0.1, 1, 7, 60.0)
        closed = paused and resumes_in != 0
        if bool(claimed) is bool(closed):
            silent.append(row)
        await transaction.rollback()

    assert silent == []


@pytest.mark.parametrize("name", STATEMENTS)
async def test_no_value_set_by_hand_fails_a_statement(connection, ask, make_token, name):
    await make_token()
    for row in ROWS:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(f"UPDATE reactor.intake SET {SAFE}")
        await connection.execute(f"UPDATE reactor.intake SET {row}")
        await ask(name, *STATEMENTS[name])
        await transaction.rollback()
