"""No statement returns more of a text than we can use, however long the stored text is."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from test_queries import NAMES, split

from reactor.database.table import Column
from reactor.tokens import LONGEST_PROMPT

pytestmark = pytest.mark.anyio

HUGE = 300_000  # characters
# A table of a host, without our CHECK constraints.
FILL = f"""
ALTER TABLE tokens_s0 DISABLE TRIGGER USER;
ALTER TABLE tokens_s0 DROP CONSTRAINT tokens_s0_status_check, DROP CONSTRAINT tokens_s0_generation_error_check;
INSERT INTO authors (prompt_text) VALUES (repeat('p', {HUGE}));
INSERT INTO tokens_s0 (
  author_id, status, generation_due_at, generation_worker, generation_lease_ends_at, generation_seed,
  generation_rescues, image_url, generation_error, generation_prediction_id
)
SELECT
  id, status, CASE WHEN number = 2 THEN now() END, CASE WHEN status = 'generating' THEN 7 END,
  CASE WHEN status = 'generating' THEN to_timestamp(0) END, 1, number, repeat('u', {HUGE}), repeat('e', {HUGE}),
  repeat('i', {HUGE})
FROM authors, unnest(
  ARRAY['detected', 'detected', 'generating', 'generating', 'uploading', 'failed', repeat('s', {HUGE})]
) WITH ORDINALITY AS given (status, number);
INSERT INTO tokens_s0 (status) SELECT 'status ' || number FROM generate_series(1, 300) AS number;
UPDATE reactor.intake SET reason = repeat('r', {HUGE});
"""
PAUSED = "paused_until = 'infinity', opens_on = 'time'"
GATE = {"claim": "paused_until = NULL, opens_on = NULL", "open_gate": "paused_until = now(), opens_on = NULL"}
LARGEST = {"claim": LONGEST_PROMPT + 1, "rescue": LONGEST_PROMPT + 1}  # characters
OF_HELD_TOKENS = {"rescue", "settle", "record", "renew", "censor"}
ANSWER = OF_HELD_TOKENS | {"claim", "look", "show", "gate_state", "pause", "resume", "open_gate", "count_statuses"}
# The arguments of statements, by the parameter's name, or else by its type (OF_A_TYPE).
ASKED = {
    "slots": 100, "rows": 100, "most_rescues": 4, "epoch": 0, "worker": 7, "own_keys": [8], "known": [],
    "learnt": "create", "interval": 60.0, "uptime": 1e6, "token_id": "1", "reason": "by hand",
    "history": None, "lock_timeout": "2s", "begin_at": None,
}  # fmt: skip
EACH = {"epochs": 0, "keys": 7, "statuses": "failed", "owners": "dead", "attempts": 1, "due_in": None, "seeds": 1}
EACH |= {
    "histories": None,
    "image_urls": None,
    "errors": "no",
    "prediction_ids": None,
    "purchases_over": False,
    "leases_end_at": 0.0,
}
OF_A_TYPE = {"text": "1", "integer": 1, "bigint": 1, "double precision": 60.0, "boolean": False}
OF_A_TYPE["timestamptz"] = datetime(2020, 1, 1, tzinfo=UTC)


def asked(name, type_, ids):
    if name in ASKED:
        return ASKED[name]
    if type_ in {"key", "key[]"}:
        return ids if type_ == "key[]" else ids[0]
    if name in {"key", "keys"} and type_ in {"text", "text[]"}:
        return str(ids[0]) if type_ == "text" else [str(each) for each in ids]
    if type_.endswith("[]"):
        return [EACH[name] if name in EACH else OF_A_TYPE[type_.removesuffix("[]")]] * len(ids)
    return "public.tokens_s0" if (name, type_) == ("tokens", "text") else OF_A_TYPE[type_]


def parameters(name):
    """Each parameter's name and type, from the statement's header."""
    found = [re.match(r"\$\d+ +(\w+) +(double precision|[a-z]+)(\[\])?", line) for line in split(name)[0]]
    return [(each[1], f"{each[2]}{each[3] or ''}") for each in found if each]


async def test_no_answer_is_larger_than_what_can_be_used(connection, ask):
    await connection.execute(FILL)
    ids = {
        status: [row["id"] for row in await connection.fetch("SELECT id FROM tokens_s0 WHERE status = $1", status)]
        for status in ("detected", "generating")
    }
    too_much, silent = {}, set()
    for name in NAMES:
        if name == "mint_prompts":  # of a table that holds its prompts
            continue
        held = ids["generating" if name in OF_HELD_TOKENS else "detected"]
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(f"UPDATE reactor.intake SET {GATE.get(name, PAUSED)}")
        answer = await ask(name, *(asked(*parameter, held) for parameter in parameters(name)))
        await transaction.rollback()
        largest = max((len(str(value)) for row in answer for value in row.values()), default=0)
        if largest > LARGEST.get(name, 4000) or len(answer) > 100:
            too_much[name] = len(answer), largest
        if not answer:
            silent.add(name)

    assert too_much == {}
    assert silent.isdisjoint(ANSWER)


async def test_a_number_that_nobody_could_read_is_none(connection, table):
    await connection.execute(
        "ALTER TABLE tokens_s0 ALTER token_id DROP IDENTITY; ALTER TABLE tokens_s0 ALTER token_id TYPE numeric"
    )
    await connection.execute("INSERT INTO tokens_s0 (token_id) VALUES (10::numeric ^ 10000), (12)")
    rows = await connection.fetch(replace(table, number=Column("token_id", "numeric")).query("claim"), 0.0, 10, 7, 60.0)

    assert {row["token_id"] for row in rows} == {None, 12}
