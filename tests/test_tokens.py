import uuid
from decimal import Decimal

import pytest
from doubles import DirectedProvider, running
from test_outcome import claim

from reactor.tokens import Batch, known_as

KEY = uuid.UUID(int=7)


@pytest.mark.parametrize(
    ("token_id", "known"),
    [
        (7, 7),
        (-(2**53), -(2**53)),
        (2**53 + 1, "9007199254740993"),
        (Decimal(2**53), 2**53),
        (Decimal(10) ** 77, "1" + 77 * "0"),
        (Decimal("1.5"), "1.5"),
        (Decimal("NaN"), "NaN"),
        (Decimal("Infinity"), "Infinity"),
        ("0x07", "0x07"),
        (KEY, f"{KEY}"),
        (None, f"{KEY}"),
    ],
)
def test_a_token_is_known_by_a_number_only_where_json_has_it(token_id, known):
    told = known_as(token_id, KEY)

    assert (told, type(told)) == (known, type(known))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kind", "token_id", "known"), [("numeric(78, 0)", Decimal(2**256 - 1), f"{2**256 - 1}"), ("text", "0x07", "0x07")]
)
async def test_a_token_with_any_kind_of_number_is_generated(database, connection, make_token, kind, token_id, known):
    await connection.execute(
        f"""
        ALTER TABLE tokens_s0 ALTER token_id DROP IDENTITY;
        ALTER TABLE tokens_s0 ALTER token_id TYPE {kind};
        """
    )

    async with running(database, DirectedProvider()) as (_, log):
        await make_token(token_id=token_id)
        told = await log.wait("token.generation.succeeded")

    assert told["token_id"] == known


def test_the_token_that_a_half_open_gate_let_through_is_the_only_probe():
    earlier, probe = claim(0), claim(0)

    batch = Batch((earlier,)).then(Batch((probe,), probe="image"))

    assert (batch.claims, batch.held_back) == ((earlier, probe), True)
    assert [batch.probe_of(each) for each in batch.claims] == [None, "image"]


def test_what_waits_for_the_gate_is_told_by_the_last_statement():
    assert [Batch().held_back, Batch(limited=True).held_back, Batch((claim(0),), probe="create").held_back] == [
        False,
        True,
        True,
    ]
    assert Batch((claim(0),)).then(Batch(limited=True)).held_back
