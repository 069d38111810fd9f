"""The memory that the sandbox uses for faults and names is bounded."""

import pytest
from test_sandbox import ask, buying

from reactor.sandbox import Sandbox, Timing
from reactor.sandbox.bounds import Bounds

pytestmark = pytest.mark.anyio

INSTANT = Timing.instant()


@pytest.mark.parametrize("name", ["match", "text"])
async def test_a_fault_has_no_text_of_any_length(name):
    sandbox = Sandbox(INSTANT)

    statuses = [
        (await ask(sandbox, "POST", "/sandbox/faults", json={"kind": "failed", name: "x" * length})).status_code
        for length in (4000, 4001)
    ]

    assert (statuses, len(list(sandbox.faults))) == ([200, 422], 1)


async def test_predictions_of_models_with_long_names_are_fewer():
    sandbox = Sandbox(INSTANT, bounds=Bounds(predictions_bytes=100_000))
    for _ in range(20):
        await ask(sandbox, "POST", f"/v1/models/{'a' * 15_000}/{'b' * 15_000}/predictions", json=buying())

    assert len(sandbox.ledger) <= 3
