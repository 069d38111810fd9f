"""Our prediction is found on a page of the listing, whatever else the account buys."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from costs import MOST, MOST_TRIES, collected_rarely, slowdown
from test_transport import EPOCH, asked
from wire import Wire, http

from reactor.errors import TransientError
from reactor.providers import Prediction
from reactor.providers.bodies import MOST_VALUES, TooManyError, UnreadableError, json_object, weight
from reactor.providers.limits import LIMITS
from reactor.providers.pages import MOST_OUTPUTS, read_object

pytestmark = pytest.mark.anyio

URL = "https://replicate.delivery/a.webp"
OURS = {"id": "ours", "status": "succeeded", "input": {"prompt": 'a "fox" \\', "seed": 7}, "output": [URL]}
LATELY = (datetime.now(tz=UTC) - timedelta(minutes=1)).isoformat()


def entry(number, **given):
    told = {"id": f"p{number}", "model": "meta/meta-llama-3-70b-instruct", "version": "hidden", "status": "succeeded"}
    told |= {"input": {"prompt": "a story", "top_p": 0.9}, "error": None, "logs": "", "output": None, "source": "api"}
    told |= {"created_at": LATELY, "metrics": {"predict_time": 1.5, "input_token_count": 9}, "urls": {"get": URL}}
    return told | given


def words(count):
    return [f" tok{number % 90}" for number in range(count)]


def page(*others, **around):
    """A page on which our prediction is the last but one."""
    return json.dumps({"previous": None, "next": "?cursor=a", "results": [*others[:-1], OURS, *others[-1:]], **around})


PAGES = {
    "700 texts each": lambda: page(*(entry(number, output=words(700)) for number in range(99))),
    "6,000 texts each": lambda: page(*(entry(number, output=words(6000)) for number in range(99))),
    "marks in logs": lambda: page(*(entry(number, logs='{[,:"}]\\' * 5000) for number in range(99))),
    "a line each": lambda: page(*(entry(number, logs="step: 1, loss: 0.1\n" * 3500) for number in range(99))),
    "one long log": lambda: page(entry(0, logs="{'a': [1, 2]}, {" * 400_000)),
    "boxes": lambda: page(
        *(entry(number, output=[{"box": [1, 2, 3, 4], "label": "a fox"}] * 250) for number in range(99))
    ),
    "half a fox": lambda: page(*(entry(number, output=[*words(2000), "\ud83e"]) for number in range(99))),
    "no number": lambda: page(*(entry(number, output=[*words(2000), float("nan")]) for number in range(99))),
    "a name in texts": lambda: page(
        *(entry(number, logs='"results": [{' * 999) for number in range(99)), detail='"results": ['
    ),
}


@pytest.mark.parametrize("made", PAGES.values(), ids=PAGES)
async def test_ours_is_found_on_a_page_whatever_else_the_account_buys(made):
    content = made()
    assert len(content) <= LIMITS.largest_body

    found = await asked(Wire(http(content.encode())), lambda provider: provider.find(7, EPOCH))

    assert found == Prediction("ours", image_url=URL)


async def test_a_page_of_many_values_without_ours_proves_that_there_is_none():
    content = page(*(entry(number, output=words(6000)) for number in range(99))).encode()
    old = content.replace(LATELY.encode(), b"1999-12-31T00:00:00Z")
    last = content.replace(b'"?cursor=a"', b"null")
    following = http({"results": [OURS | {"id": "next", "input": {"seed": 8}}], "next": None})

    found = [
        await asked(Wire(http(one), following), lambda provider: provider.find(8, EPOCH))
        for one in (old, last, content)
    ]

    assert found == [None, None, Prediction("next", image_url=URL)]


@pytest.mark.parametrize("gap", [b"", b" \n\t"])
async def test_a_page_read_one_by_one_lacks_only_what_nobody_reads(gap):
    others = (entry(number, logs='{"a": "]}"}' * 999, output=words(4000)) for number in range(99))
    content = page(*others, more=[{"a": 1}]).encode()
    for mark in (b"}, {", b": [", b"}]"):
        content = content.replace(mark, gap.join(mark[place : place + 1] for place in range(len(mark))) + gap)

    one_by_one, at_once = await read_object(content), json_object(content, 0)
    for told in at_once["results"]:
        told.pop("logs", None)
        told["output"] = told["output"][:MOST_OUTPUTS]

    assert one_by_one == at_once


def broken(page):
    yield from (page[:-1], page[:-2] + b"}", page[:3_000_000], page[:3_000_000] + b'"]}', page + b"}")
    yield page.replace(b'"results"', b'"x": {"results"') + b"}"
    yield page.replace(b'"results": [', b'"results": [null, ')
    yield page.replace(b'"output"', b'"output" "x"', 50)
    yield b'{"results": [' + b'"a": 1, ' * 200_000


@pytest.mark.parametrize("number", range(9))
async def test_a_page_of_many_values_that_is_no_json_proves_nothing(number):
    whole = page(*(entry(number, output=words(6000)) for number in range(99))).encode()

    with pytest.raises(UnreadableError):
        await read_object(list(broken(whole))[number])


async def test_a_large_answer_that_is_no_page_is_not_read_one_by_one():
    content = json.dumps(entry(1, output=words(MOST_VALUES))).encode()

    error = await asked(Wire(http(content)), lambda provider: provider._poll("p1", 0.0))

    assert (type(error), str(error)) == (TransientError, "Replicate gave no usable answer: too many values")


async def test_marks_inside_texts_are_no_values():
    content = json.dumps({**OURS, "logs": "{[,:" * MOST_VALUES}).encode()

    assert await asked(Wire(http(content)), lambda provider: provider._poll("ours", 0.0)) == Prediction(
        "ours", image_url=URL
    )


async def test_a_long_prompt_of_others_is_no_reason_to_refuse_a_page():
    others = (entry(number, input={"prompt": "one, two: " * 2000}, output=words(2000)) for number in range(99))

    assert len((await read_object(page(*others).encode()))["results"]) == 100


def filled(start, unit, end):
    return start + unit * ((LIMITS.largest_body - len(start) - len(end)) // len(unit)) + end


WORST = {
    "texts": lambda: filled(b'{"results": [{"output": [', b'"",', b"0]}]}"),
    "numbers": lambda: filled(b'{"results": [{"output": [', b"1,", b"0]}]}"),
    "lists": lambda: filled(b'{"results": [{"output": [', b"[],", b"0]}]}"),
    "names": lambda: filled(b'{"results": [{"a": {', b'"":0,', b'"b":0}}]}'),
    "depth": lambda: filled(b'{"results": [{"output": ', b"[", b"0"),
    "predictions": lambda: filled(b'{"results": [', b"{},", b"{}]}"),
    "gaps": lambda: filled(b'{"a": [%b], "results": [' % (b"0," * 300_000), b" ", b"{}]}"),
    "lists in pieces": lambda: filled(b'{"results": [', b'{"a": [%b]},' % (b"[]," * 35_000 + b"[]"), b"{}]}"),
    "inputs": lambda: filled(b'{"results": [', b'{"input": {"a": [%b]}},' % (b'"ab",' * 9_000 + b"0"), b"{}]}"),
    "words": lambda: filled(b'{"results": [', b'{"output": [%b]},' % (b'"ab",' * 17_000 + b"0"), b"{}]}"),
    "all in one": lambda: filled(b'{"results": [', b'{"output": [%b]},' % (b'"abcdef",' * 145_000 + b"0"), b"{}]}"),
    "one text": lambda: filled(b'{"results": [{"a": [%b0], "error": "' % (b"0," * 149_000), b"{[,:a", b'"}]}'),
    "a text of foxes": lambda: filled(b'{"results": [{"error": "{' , b",a" * 999 + b"\xf0\x9f\xa6\x8a", b'"}]}'),
    "escapes": lambda: filled(b'{"results": [{"error": "' , rb"\",", b'"}]}'),
    "backslashes": lambda: filled(b'{"results": [{"a": [%b0], "error": "' % (b"0," * 300_000), rb"\\", b'"}]}'),
}  # fmt: skip


def steps(content):
    """Seconds of CPU that each step of the reading takes, until other tasks have a turn."""
    reading = read_object(content)
    while True:
        began = time.thread_time()
        try:
            reading.send(None)
        except (StopIteration, UnreadableError):
            return
        finally:
            yield time.thread_time() - began


async def test_other_tasks_have_a_turn_before_each_prediction_of_a_page_is_parsed():
    content = page(*(entry(number, input={"prompt": "one, two: " * 2000}) for number in range(99))).encode()

    assert len(list(steps(content))) > 99


@pytest.mark.parametrize("made", WORST.values(), ids=WORST)
async def test_no_step_of_reading_a_page_holds_the_loop(made):
    content = made()
    with collected_rarely():
        longest = list(steps(content))
        for _ in range(MOST_TRIES):
            if max(longest) < MOST:
                break
            slower = slowdown()
            longest = [min(cost, again / slower) for cost, again in zip(longest, steps(content), strict=True)]

    assert weight(content) > MOST_VALUES
    assert len(longest) > 3
    assert max(longest) < MOST


@pytest.mark.parametrize("worst", ["numbers", "names", "predictions", "lists in pieces", "inputs", "gaps"])
async def test_a_page_of_which_too_much_would_be_kept_is_refused(worst):
    with pytest.raises(TooManyError, match="too many values"):
        await read_object(WORST[worst]())
