"""The notifications that a listener gets from the tokens table's triggers."""

import json

import anyio

WAKE, STATUS = "public_tokens_s0_wake", "public_tokens_s0_status"
WOKEN = (WAKE, "")


def told(status, *token_ids):
    return STATUS, json.dumps({"status": status, "token_ids": token_ids})


async def listening(ear, *channels):
    """A function that returns what arrived on the channels since its last call, up to a notification that it sends."""
    heard, bell = [], anyio.Event()

    def hear(_connection, _pid, name, payload):
        nonlocal bell
        if name == "bell":
            bell.set()
        else:
            heard.append((name, json.dumps(json.loads(payload)) if payload else ""))

    for name in (*channels, "bell"):
        await ear.add_listener(name, hear)

    async def take():
        nonlocal heard, bell
        await ear.execute("NOTIFY bell")
        with anyio.fail_after(5):
            await bell.wait()
        taken, heard, bell = heard, [], anyio.Event()
        return taken

    return take


async def silently(connection, count=1, **columns):
    """Make tokens in a state without running triggers; return their ids."""
    names, places = ", ".join(columns), ", ".join(f"${place}" for place in range(1, len(columns) + 1))
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        rows = await connection.fetch(
            f"INSERT INTO tokens_s0 ({names}) SELECT {places} FROM generate_series(1, {count}) RETURNING token_id",
            *columns.values(),
        )
    return [row["token_id"] for row in rows]
