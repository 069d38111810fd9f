import anyio.lowlevel
import pytest

from reactor.telemetry import Telemetry


@pytest.mark.anyio
async def test_what_happens_to_tokens_is_told_in_the_next_turn_and_before_anything_else():
    told = []
    telemetry = Telemetry(lambda event, _fields: told.append(event))

    telemetry.emit("token.generation.started", token_id=1)
    at_once = list(told)
    await anyio.lowlevel.checkpoint()
    in_the_next_turn = list(told)
    telemetry.emit("token.generation.succeeded", token_id=1)
    telemetry.emit("worker.stopped")

    assert at_once == []
    assert in_the_next_turn == ["token.generation.started"]
    assert told[1:] == ["token.generation.succeeded", "worker.stopped"]


def test_without_a_loop_everything_is_told_at_once():
    told = []

    Telemetry(lambda event, _fields: told.append(event)).emit("token.generation.started")

    assert told == ["token.generation.started"]
