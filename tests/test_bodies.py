"""No answer of any form takes too much memory or holds the loop too long."""

import asyncio
import gzip
import tracemalloc
import zlib

import anyio
import pytest
from costs import MOST, collected_rarely, seconds
from test_transport import CALLS, STARTING, asked
from wire import HANG_UP, SILENCE, Wire, http, quick_tls  # noqa: F401  (a fixture)

from reactor.errors import AmbiguousCreateError, TransientError
from reactor.providers import Prediction
from reactor.providers.bodies import (
    LARGEST_SLOWLY,
    MOST_VALUES,
    MOST_VALUES_SLOWLY,
    UnreadableError,
    decoded,
    json_object,
    weight,
)
from reactor.providers.http_client import Reply
from reactor.providers.limits import LIMITS
from reactor.providers.transport import LARGE, _body_of

pytestmark = pytest.mark.anyio

LARGEST = LIMITS.largest_body
MEGABYTE = 1_000_000
BODY = b'{"id": "p1", "status": "starting"}'
GZIP = [(b"Content-Encoding", b"gzip")]


def raw_deflate(content):
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(content) + stream.flush()


def bomb(size, times):
    """Zeros, compressed `times` times: 270 bytes can hold 3 GB, compressed three times."""
    stream = zlib.compressobj(9, wbits=31)
    body = b"".join(stream.compress(bytes(MEGABYTE)) for _ in range(size // MEGABYTE)) + stream.flush()
    for _ in range(times - 1):
        body = gzip.compress(body, 9)
    return body


class Peak:
    """The most memory that the block allocated at one time, in bytes."""

    def __enter__(self):
        tracemalloc.start()
        return self

    def __exit__(self, *_):
        self.bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("identity", BODY),
        ("", BODY),
        ("gzip", gzip.compress(BODY)),
        ("X-GZIP", gzip.compress(BODY)),
        ("identity, gzip", gzip.compress(BODY)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
    ],
    ids=range(7),
)
async def test_one_coding_is_undone(coding, body):
    seen = await asked(Wire(http(body, content_encoding=coding)), CALLS["create"])

    assert seen == Prediction("p1")


@pytest.mark.parametrize("headers", [[*GZIP, *GZIP], [(b"content-encoding", b"gzip, gzip")], [(b"a", b"b"), *GZIP * 3]])
def test_a_second_coding_is_not_undone(headers):
    with pytest.raises(UnreadableError, match="not asked for"):
        decoded(headers, gzip.compress(gzip.compress(BODY)), largest=LARGEST)


@pytest.mark.parametrize("coding", [b"br", b"zstd", b"compress", b"gzip;q=1", b"\xff"])
def test_an_unknown_coding_is_not_undone(coding):
    with pytest.raises(UnreadableError, match="not asked for"):
        decoded([(b"content-encoding", coding)], BODY, largest=LARGEST)


@pytest.mark.parametrize("body", [b"", b"no gzip", gzip.compress(BODY)[:-1], gzip.compress(BODY)[:20]], ids=range(4))
def test_a_body_that_is_cut_or_not_compressed_is_unreadable(body):
    with pytest.raises(UnreadableError, match="cannot be decompressed"):
        decoded(GZIP, body, largest=LARGEST)


@pytest.mark.parametrize("bound", [LARGEST, LARGEST + 1])
def test_a_body_is_decompressed_up_to_the_bound(bound):
    body = gzip.compress(b" " * bound)

    if bound <= LARGEST:
        assert len(decoded(GZIP, body, largest=LARGEST)) == bound
    else:
        with pytest.raises(UnreadableError, match="more than 8,388,608 bytes"):
            decoded(GZIP, body, largest=LARGEST)


MANY_CHUNKS = b"HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 300_000 + b"0\r\n\r\n"
ATTACKS = {
    "a bomb": lambda: http(bomb(50 * MEGABYTE, 1), 201, content_encoding="gzip"),
    "a bomb in a bomb": lambda: http(bomb(50 * MEGABYTE, 2), 201, content_encoding="gzip, gzip"),
    "a bomb in a bomb in a bomb": lambda: http(bomb(50 * MEGABYTE, 3), 201, content_encoding="gzip, gzip, gzip"),
    "a body without an end": lambda: b"HTTP/1.1 201 Created\r\n\r\n" + b" " * 9 * MEGABYTE,
    "chunks without an end": lambda: MANY_CHUNKS,
    "headers without an end": lambda: b"HTTP/1.1 201 Created\r\n" + b"ab:cd\r\n" * 500_000,
    "a header without an end": lambda: b"HTTP/1.1 201 Created\r\na: " + b"b" * 9 * MEGABYTE,
    "answers before the answer": lambda: b"HTTP/1.1 103 Early\r\na: b\r\n\r\n" * 200_000,
    "lists": lambda: http(b'{"r": [%b0]}' % (b"[]," * 700_000), 201),
    "objects": lambda: http(b'{"r": [%b0]}' % (b'{"a":0},' * 250_000), 201),
    "objects in a bomb": lambda: http(
        gzip.compress(b'{"r": [%b0]}' % (b'{"a":0},' * 250_000)), 201, content_encoding="gzip"
    ),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_an_attack_is_ambiguous_and_takes_little_memory(attack):
    wire = Wire([(0, attack()), (0, SILENCE)])

    with Peak() as peak, anyio.fail_after(20):
        error = await asked(wire, CALLS["create"])

    assert type(error) is AmbiguousCreateError
    assert peak.bytes < 32 * MEGABYTE


async def test_a_head_may_be_long_but_not_endless():
    long = http(STARTING, 201, **{f"x_{number}": "y" * 100 for number in range(500)})

    assert await asked(Wire(long), CALLS["create"]) == Prediction("p1")


async def test_nothing_compressed_is_asked_for():
    wire = Wire(http(STARTING, 201))

    await asked(wire, CALLS["create"])

    asked_for = [line for line in wire.requests[0][0].lower().split("\r\n") if line.startswith("accept-encoding")]
    assert asked_for == ["accept-encoding: identity"]


@pytest.mark.parametrize(("size", "turns"), [(LARGE + 1, 1), (1000, 0)])
async def test_after_a_large_answer_was_read_others_have_a_turn(size, turns):
    had = []
    asyncio.get_running_loop().call_soon(had.append, "a turn")

    body = await _body_of(Reply(201, [], BODY + b" " * (size - len(BODY))), LARGEST)

    assert body["id"] == "p1"
    assert len(had) == turns


async def test_a_refusal_that_is_too_large_to_read_is_transient():
    wire = Wire([(0, http(b"x" * 9 * MEGABYTE, 402)), (0, HANG_UP)])

    assert type(await asked(wire, CALLS["get"])) is TransientError


@pytest.mark.parametrize(("strict", "largest"), [(True, LARGEST), (False, LARGEST_SLOWLY)])
def test_an_answer_has_a_bounded_size(strict, largest):
    content = (b'{"r": "' if strict else b'{"n": NaN, "r": "') + b"x" * 100
    assert json_object(content + b"x" * (largest - len(content) - 2) + b'"}') is not None
    if not strict:
        with pytest.raises(UnreadableError, match="too large, and no strict JSON"):
            json_object(content + b"x" * (largest - len(content) - 1) + b'"}')


def test_a_data_uri_of_an_images_size_is_read():
    body = b'{"id": "p1", "status": "succeeded", "output": "data:image/png;base64,%b"}' % (b"iVBORw0K" * 900_000)

    assert json_object(body)["status"] == "succeeded"


def values(count, *, strict=True):
    start = b'{"r": [' if strict else b'{"n": NaN, "r": ['
    return start + b"1," * (count - weight(start)) + b"1]}"


@pytest.mark.parametrize(("strict", "most"), [(True, MOST_VALUES), (False, MOST_VALUES_SLOWLY)])
def test_an_answer_has_a_bounded_number_of_values(strict, most):
    assert json_object(values(most, strict=strict)) is not None
    with pytest.raises(UnreadableError, match=r"too (many values|large, and no strict JSON)"):
        json_object(values(most + 1, strict=strict))


def full(start, unit, end=b"}", most=MOST_VALUES, largest=LARGEST):
    room = (largest - len(start) - len(end)) // len(unit)
    return start + unit * (min(room, (most - weight(start)) // weight(unit)) if weight(unit) else room) + end


SLOW, SLOW_SIZE = MOST_VALUES_SLOWLY, LARGEST_SLOWLY
WORST = {
    "objects": lambda: full(b'{"r": [', b'{"a":0},', b"0]}"),
    "lists": lambda: full(b'{"r": [', b"[],", b"0]}"),
    "texts": lambda: full(b'{"r": [', b'"abcdef",', b"0]}"),
    "numbers": lambda: full(b'{"r": [', b"0.5,", b"0]}"),
    "empty objects": lambda: full(b'{"r": [', b"{},", b"0]}"),
    "names": lambda: b'{"a": 0%b}' % b"".join(b',"%x":0' % number for number in range(MOST_VALUES // 4 - 10)),
    "slow names": lambda: b'{"a": NaN%b}' % b"".join(b',"%x":0' % number for number in range(SLOW // 4 - 10)),
    "slow objects": lambda: full(b'{"n": NaN, "r": [', b'{"a":0},', b"0]}", SLOW, SLOW_SIZE),
    "slow numbers": lambda: full(b'{"n": NaN, "r": [', b"1e308,", b"0]}", SLOW, SLOW_SIZE),
    "long numbers": lambda: full(b'{"n": NaN, "r": [', b"9" * 999 + b",", b"0]}", SLOW, SLOW_SIZE),
    "escapes": lambda: full(b'{"n": NaN, "r": "', b"a\\n", b'"}', largest=SLOW_SIZE),
    "surrogates": lambda: full(b'{"r": "', rb"\ud800", b'"}', largest=SLOW_SIZE),
    "no UTF-8": lambda: full(b'{"r": "', b"\xe2\x82", b'"}', largest=SLOW_SIZE),
    "long text": lambda: full(b'{"r": "', b"\xf0\x9f\xa6\x8a", b'"}'),
    "escaped text": lambda: full(b'{"r": "', b"a\\n", b'"}'),
    "open lists": lambda: b"[" * (SLOW // 3),
}


@pytest.mark.parametrize("made", WORST.values(), ids=WORST)
def test_the_worst_answer_that_is_read_holds_the_loop_for_less_than_50_ms(made):
    compressed = gzip.compress(made(), 1)

    with collected_rarely():
        assert seconds(lambda: json_object(decoded(GZIP, compressed, largest=LARGEST))) < MOST
