import ast
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from doubles import Log
from virtual import in_virtual_time

from reactor import events
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


def refused(telemetry, *numbers, kind="RaiseError", **more):
    for number in numbers:
        told = {"error_type": kind, "error_message": f"not {number}", "token_id": number}
        telemetry.emit("worker.error", role="claimer", **told, **more)


@pytest.mark.anyio
@in_virtual_time
async def test_an_error_that_repeats_is_told_once_a_minute_with_the_number_of_its_repeats():
    log = Log()
    telemetry = Telemetry(log)

    told = []
    for numbers in ([1, 2, 3], [4], [], [5]):
        refused(telemetry, *numbers)
        told.append([(each["token_id"], each.get("count")) for each in log.events])
        await anyio.sleep(61)

    assert told[0] == [(1, None)]
    assert told[1] == [(1, None), (3, 2)]
    assert told[2] == [(1, None), (3, 2), (4, 1)]
    # After a minute without the error, it is logged at once again.
    assert told[3] == [(1, None), (3, 2), (4, 1), (5, None)]


@pytest.mark.anyio
async def test_what_was_counted_is_told_before_the_worker_has_stopped():
    log = Log()
    telemetry = Telemetry(log)

    refused(telemetry, 1, 2)
    telemetry.emit("worker.stopped")

    assert [(told["event"], told.get("count")) for told in log.events] == [
        ("worker.error", None),
        ("worker.error", 1),
        ("worker.stopped", None),
    ]


@pytest.mark.anyio
async def test_errors_of_other_kinds_or_about_something_bought_are_always_told():
    log = Log()
    telemetry = Telemetry(log)

    refused(telemetry, 1)
    refused(telemetry, 2, kind="CheckViolationError")
    refused(telemetry, 3, 4, prediction_id="paid")

    assert [told["token_id"] for told in log.events] == [1, 2, 3, 4]


def test_the_name_of_an_event_stands_in_one_place():
    names = {value for name, value in vars(events).items() if name.isupper()}
    places, emitted = [], set()
    for path in Path(events.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Constant(value=value) if value in names:
                    places.append((path.name, value))
                case ast.Call(func=ast.Attribute(attr="emit"), args=[ast.Constant(value=value)]):
                    places.append((path.name, value))
                case ast.Attribute(value=ast.Name(id="events"), attr=name):
                    emitted.add(getattr(events, name))

    assert sorted(places) == sorted(("events.py", name) for name in names)
    assert emitted == names
