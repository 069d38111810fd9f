"""What the reactor's own accounts say after a torture, compared with the ledger: audit, history and status.

The ledger is the truth, because the sandbox writes it. In the end purchases are planted that nothing explains, and the
audit has to find exactly these.
"""

import json
import subprocess
from dataclasses import dataclass
from decimal import Decimal

import asyncpg
import httpx
from anyio import to_thread

from torture.house import PRICE
from torture.processes import environment, reactor

MODEL = "black-forest-labs/flux-schnell"
USED = """
    SELECT generation_prediction_id FROM tokens_s0 WHERE status = 'uploading' AND generation_prediction_id IS NOT NULL
"""
USE = """
    INSERT INTO tokens_s0
      (token_id, status, image_url, generation_seed, generation_seeded_at, generation_prediction_id)
    SELECT max(token_id) + 1, 'uploading', 'https://x', $1::integer, now(), $2::text FROM tokens_s0
"""
DENIED = "denied-by-the-provider"
SAME_DAY = "SELECT date_trunc('day', now(), 'UTC') <= (SELECT min(mint_timestamp) FROM tokens_s0)"
KINDS = ("audit and ledger differ", "sums differ", "planted, and not found")


@dataclass(frozen=True, slots=True)
class Accounts:
    """What was told: by `reactor audit` before and after the planting, and by `reactor status`."""

    audited: dict
    replanted: dict
    status: dict
    used: frozenset  # predictions that the tokens name
    same_day: bool  # whether the torture did not pass midnight UTC, so `today` is all of it
    planted: dict  # prediction → how the audit should call it


async def accounts(house, ledger):
    """Ask the reactor for its accounts; then plant, and ask again."""
    connection = await asyncpg.connect(house.url)
    try:
        used = frozenset(row[0] for row in await connection.fetch(USED))
        same_day = await connection.fetchval(SAME_DAY)
        audited, status = await _told(house, "audit"), await _told(house, "status")
        planted = await _plant(house, connection, ledger)
        return Accounts(audited, await _told(house, "audit"), status, used, same_day, planted)
    finally:
        await connection.close()


async def _told(house, command):
    """The object that a command prints."""
    done = await to_thread.run_sync(
        lambda: subprocess.run(
            reactor(command, "--json"),
            env=environment(**house.settings(house.url)),
            capture_output=True,
            timeout=300,
            check=False,
        )
    )
    if not done.stdout:
        raise RuntimeError(f"reactor {command} told nothing: {done.stderr.decode()}")
    return json.loads(done.stdout) | {"exit_code": done.returncode}


async def _plant(house, connection, ledger):
    """Buy a second time with a used seed, for no token, and as another program; and use what the provider lacks."""
    seeds = {entry["id"]: entry["seed"] for entry in ledger}
    token = await connection.fetchrow("SELECT * FROM tokens_s0 WHERE status = 'uploading' LIMIT 1")
    free = next(seed for seed in range(2**31) if seed not in seeds.values())
    planted = {}
    async with httpx.AsyncClient(headers={"Authorization": "Bearer r8_torture"}, timeout=60) as client:
        for kind, given in (
            ("bought_twice", {"seed": seeds[token["generation_prediction_id"]]}),
            ("without_token", {"seed": free}),
            ("not_ours", {}),
        ):
            body = {"input": {"prompt": "planted", **given}}
            answer = await client.post(f"{house.base_url}/v1/models/{MODEL}/predictions", json=body)
            planted[answer.json()["id"]] = kind
    await connection.execute(USE, free + 1, DENIED)
    return planted | {DENIED: "denied"}


def compared(told, ledger):
    """The faults of each kind, each with an explanation."""
    return {
        "audit and ledger differ": [(0, why) for why in _of_the_audit(told, ledger)],
        "sums differ": [(0, why) for why in _of_the_sums(told, ledger)],
        "planted, and not found": [(0, why) for why in _of_the_planting(told)],
    }


def _of_the_audit(told, ledger):
    audited, ids = told.audited, {entry["id"] for entry in ledger}
    unused = {each["prediction_id"] for each in audited["predictions"]}
    if (audited["ok"], audited["exit_code"]) != (True, 0):
        yield f"unexplained: {[each for each in audited['predictions'] if not each['explained']]}"
    if unused != ids - told.used:
        yield f"named {unused - (ids - told.used)} and not {ids - told.used - unused}"
    expected = {"used": len(told.used), "unused": len(ids - told.used)}
    if (counts := {kind: count for kind, count in audited["counts"].items() if count}) != {
        kind: count for kind, count in expected.items() if count
    }:
        yield f"counted {counts}, not {expected}"


def _of_the_sums(told, ledger):
    """Every image was used, so the cost is that of the used ones."""
    today, cost = told.status["today"], len(told.used) * Decimal(PRICE)
    sums = [("audit, used", told.audited["cost"]["used"], f"{cost:f}")]
    if told.same_day:
        wasted = len(ledger) - len(told.used)
        sums += [
            ("status, bought", today["bought"], len(ledger)),
            ("status, used", today["used"], len(told.used)),
            ("status, wasted", today["wasted"], wasted),
            ("status, wasted by", sum(today["wasted_by"].values()), wasted),
            ("status, cost", today["cost"], float(cost)),
        ]
    for name, said, is_so in sums:
        if said != is_so:
            yield f"{name}: {said}, not {is_so}"


def _of_the_planting(told):
    replanted = told.replanted
    found = {each["prediction_id"]: each["kind"] for each in replanted["predictions"] if each["explained"] is False}
    expected = {name: kind for name, kind in told.planted.items() if kind != "not_ours"}
    if found != expected:
        yield f"found {found}, not {expected}"
    if replanted["counts"]["not_ours"] != 1:
        yield f"counted {replanted['counts']['not_ours']} of other programs, not 1"
    if (replanted["ok"], replanted["exit_code"]) != (False, 1):
        yield f"ended with {replanted['exit_code']}"
