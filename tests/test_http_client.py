"""Whatever happens to a connection, nothing is bought twice."""

import gzip
import os
import socket
import ssl
from contextlib import suppress

import anyio
import anyio.lowlevel
import httpx
import pytest
import trustme
from conftest import ASYNCIO, UVLOOP
from wire import HANG_UP, SILENCE, Wire, http

from reactor.errors import AmbiguousCreateError, TransientError
from reactor.providers import Prediction
from reactor.providers.limits import Limits
from reactor.providers.replicate import ReplicateProvider
from reactor.secret import Secret

pytestmark = pytest.mark.anyio

TOKEN = "r8_a_secret_that_must_not_be_told"
STARTING = {"id": "p1", "status": "starting"}
ANSWER = http(STARTING, 201)


@pytest.fixture(params=[UVLOOP, ASYNCIO])
def anyio_backend(request):
    return request.param


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def trusted(authority, monkeypatch, tmp_path):
    """The authority, which the provider trusts because SSL_CERT_FILE names it."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return authority


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request, trusted):
    """The server's TLS context, or None."""
    return serving(trusted) if request.param else None


def serving(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


def provided(url, **limits):
    return ReplicateProvider(TOKEN, base_url=url, limits=Limits(**limits))


async def buy(provider):
    return await provider.create("a fox", 1)


async def failing(call):
    with pytest.raises(Exception) as caught:  # noqa: PT011  (which one is what the test asks)
        await call
    return caught.value


async def heard():
    """Give the client time to see what the server sent or closed."""
    await anyio.sleep(0.05)
    for _ in range(20):  # after a stall the server's pause ends in the same turn of the loop as this one
        await anyio.lowlevel.checkpoint()


async def until(asked):
    with anyio.fail_after(5):
        while not asked():
            await anyio.lowlevel.checkpoint()


# Creates that were never sent, or are ambiguous


async def test_a_certificate_that_is_not_trusted_ends_it_before_anything_is_sent(authority):
    wire = Wire(ANSWER, tls=serving(authority))
    async with wire.serve() as url:
        provider = provided(url)
        error = await failing(buy(provider))
        await provider.aclose()

    assert (type(error), error.purchase_over) == (TransientError, True)
    assert str(error) == "Cannot reach Replicate: certificate verify failed: unable to get local issuer certificate"
    assert wire.requests == []


async def test_a_handshake_that_does_not_end_is_given_up_before_anything_is_sent():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        provider = provided(f"https://127.0.0.1:{silent.getsockname()[1]}", connect_within=0.1)
        error = await failing(buy(provider))
        await provider.aclose()

    assert (type(error), error.purchase_over) == (TransientError, True)
    assert str(error) == "Cannot reach Replicate: no connection in time"


async def test_the_wire_has_timeouts_though_the_sdk_turns_them_off():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        provider = provided(f"http://127.0.0.1:{silent.getsockname()[1]}", answer_within=0.1)
        error = await failing(buy(provider))
        await provider.aclose()

    assert (type(error), error.purchase_over) == (AmbiguousCreateError, False)
    assert type(error.__cause__) is httpx.ReadTimeout


@pytest.mark.parametrize("kept", [False, True], ids=["fresh", "kept"])
@pytest.mark.parametrize("said", [b"", ANSWER[:30], ANSWER[:-3]], ids=["nothing", "half a head", "half a body"])
async def test_a_create_whose_connection_breaks_is_sent_once(tls, kept, said):
    wire = Wire(*[ANSWER] * kept, [(0, said), (0, HANG_UP)] if said else [(0, HANG_UP)], ANSWER, tls=tls)
    async with wire.serve() as url:
        provider = provided(url)
        for _ in range(kept):
            await buy(provider)
        error = await failing(buy(provider))
        bought = len(wire.requests)
        look = await buy(provider)
        await provider.aclose()

    assert (type(error), error.purchase_over) == (AmbiguousCreateError, False)
    assert bought == 1 + kept
    assert look == Prediction("p1")
    assert wire.connections == 2


async def test_a_poll_whose_connection_breaks_is_repeated_once():
    wire = Wire(ANSWER, [(0, HANG_UP)], [(0, HANG_UP)], ANSWER)
    async with wire.serve() as url:
        provider = provided(url)
        await buy(provider)
        error = await failing(provider._poll("p1", 0.0))
        await provider.aclose()

    assert (type(error), error.purchase_over) == (TransientError, False)
    assert len(wire.requests) == 3


async def test_a_tls_error_in_the_midst_of_an_answer_is_a_lost_connection(trusted):
    async def broken(stream):
        descriptor = os.dup(stream.extra(anyio.abc.SocketAttribute.raw_socket).fileno())  # noqa: S610  (not Django's)
        with socket.socket(fileno=descriptor) as beneath:
            beneath.send(b"\x17\x03\x03\x00\x20" + b"x" * 32)

    wire = Wire([(0, broken), (0, SILENCE)], tls=serving(trusted))
    async with wire.serve() as url:
        provider = provided(url)
        error = await failing(buy(provider))
        await provider.aclose()

    assert (type(error), error.purchase_over) == (AmbiguousCreateError, False)


# Idle connections


async def second_purchase(wire, *, may_fail=()):
    """Buy, let the client hear what the server does after its answer, and buy again; return the second prediction."""
    async with wire.serve() as url:
        provider = provided(url)
        with suppress(*may_fail):
            await buy(provider)
        await heard()
        bought = await buy(provider)
        await provider.aclose()
    return bought


async def test_a_connection_that_the_server_closed_is_not_written_to(tls):
    wire = Wire([(0, ANSWER), (0, HANG_UP)], ANSWER, tls=tls)

    assert await second_purchase(wire) == Prediction("p1")
    assert wire.connections == 2


async def test_a_message_that_nobody_asked_for_is_not_an_answer(tls):
    unasked = http({"id": "p2", "status": "starting"}, 408)
    wire = Wire([(0, ANSWER), (0.02, unasked), (0, SILENCE)], ANSWER, tls=tls)

    assert await second_purchase(wire) == Prediction("p1")
    assert wire.connections == 2


@pytest.mark.parametrize("more", [http({"id": "p2", "status": "starting"}), b"x", b"HTTP/1.1 200"])
async def test_bytes_after_an_answer_are_not_the_next_answer(more):
    wire = Wire(ANSWER + more, ANSWER)

    assert await second_purchase(wire, may_fail=[AmbiguousCreateError]) == Prediction("p1")
    assert wire.connections <= 2


async def test_a_connection_that_the_server_ends_is_not_used_again():
    wire = Wire(http(STARTING, 201, connection="close"), ANSWER)
    async with wire.serve() as url:
        provider = provided(url)
        bought = [await buy(provider) for _ in range(2)]
        await provider.aclose()

    assert bought == [Prediction("p1")] * 2
    assert wire.connections == 2


async def test_a_cancelled_request_closes_its_connection(tls):
    wire = Wire(ANSWER, SILENCE, ANSWER, tls=tls)
    async with wire.serve() as url:
        provider = provided(url)
        await buy(provider)
        async with anyio.create_task_group() as group:
            group.start_soon(buy, provider)
            await until(lambda: len(wire.requests) == 2)
            group.cancel_scope.cancel()
        bought = await buy(provider)
        await provider.aclose()

    assert bought == Prediction("p1")
    assert wire.connections == 2


async def test_a_hundred_at_a_time_have_a_connection_each_and_keep_it(tls):
    many = 100
    wire = Wire(*[ANSWER] * 2 * many, tls=tls)
    async with wire.serve() as url:
        provider = provided(url, connect_within=50.0, answer_within=50.0)  # a loaded machine may need longer
        for _ in range(2):
            async with anyio.create_task_group() as group:
                for _ in range(many):
                    group.start_soon(buy, provider)
        await provider.aclose()

    assert len(wire.requests) == 2 * many
    assert wire.connections <= many


# Answers and requests


CHUNKS = (
    b"HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n"
    b'9\r\n{"id": "p\r\n19\r\n1", "status": "starting"}\r\n0\r\n'
)
BODY = b'{"id": "p1", "status": "starting"}'


@pytest.mark.parametrize(
    ("parts", "connections"),
    [
        ([CHUNKS + b"\r\n"], 1),
        ([CHUNKS + b"content-encoding: gzip\r\n\r\n"], 1),
        ([b"HTTP/1.1 103 Early Hints\r\nlink: x\r\ncontent-encoding: gzip\r\n\r\n" + ANSWER], 1),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", ANSWER], 1),
        ([b"HTTP/1.1 201 Created\r\n\r\n" + BODY, HANG_UP], 2),
        ([b"HTTP/1.0 201 Created\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY], 2),
        ([http(gzip.compress(BODY), 201, content_encoding="gzip")], 1),
        ([ANSWER[place : place + 1] for place in range(len(ANSWER))], 1),
    ],
    ids=["chunks", "trailers", "early hints", "continue", "until its end", "HTTP/1.0", "gzip", "bytes"],
)
async def test_an_answer_may_come_in_many_forms(parts, connections):
    wire = Wire([(0.001 * (len(parts) > 1), part) for part in parts], ANSWER)
    async with wire.serve() as url:
        provider = provided(url)
        bought = [await buy(provider) for _ in range(2)]
        await provider.aclose()

    assert bought == [Prediction("p1")] * 2
    assert wire.connections == connections


@pytest.mark.parametrize(
    "answer",
    [
        CHUNKS,
        b"HTTP/1.1 201 Created\r\ncontent-length: 100\r\n\r\n" + BODY,
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n" + ANSWER,
        b"HTTP/1.1 201 Created\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n" + CHUNKS,
        http(gzip.compress(b"x" * 50_000_000), 201, content_encoding="gzip"),
        b"HTTP/1.1 201 Created\r\n" + b"x: y\r\n" * 2_000_000,
    ],
    ids=["no end", "cut short", "another protocol", "two lengths", "a bomb", "endless headers"],
)
async def test_an_unusable_answer_to_a_create_is_ambiguous(answer):
    wire = Wire([(0, answer), (0, HANG_UP)])
    async with wire.serve() as url:
        provider = provided(url)
        error = await failing(buy(provider))
        await provider.aclose()

    assert type(error) is AmbiguousCreateError
    assert len(wire.requests) == 1


@pytest.mark.parametrize("token", ["a\r\nb: c", "a\nb", "a\x00", "", "ä"])
async def test_a_token_that_no_header_carries_is_not_sent(token):
    secret = Secret("r8_a")
    provider = ReplicateProvider(secret, base_url="http://127.0.0.1:1")
    secret.value = token

    error = await failing(buy(provider))

    assert (type(error), error.purchase_over) == (TransientError, True)
    assert type(error.__cause__) is httpx.LocalProtocolError


async def test_the_sdk_cannot_ask_another_origin():
    wire = Wire(ANSWER)
    async with wire.serve() as url:
        error = await failing(provided("http://127.0.0.1:1").page(f"{url}/v1/predictions"))

    assert (type(error), type(error.__cause__)) == (TransientError, httpx.UnsupportedProtocol)
    assert wire.connections == 0


async def test_a_host_is_reached_at_whichever_of_its_addresses_answers(tls):
    wire = Wire(ANSWER, tls=tls)
    async with wire.serve() as url:
        provider = provided(url.replace("127.0.0.1", "localhost"))
        bought = await buy(provider)
        await provider.aclose()

    assert bought == Prediction("p1")


async def test_a_certificate_of_another_host_is_refused(tls, monkeypatch):
    wire = Wire(ANSWER, tls=tls)
    async with wire.serve() as url:
        provider = provided(url.replace("127.0.0.1", "127.0.0.2"))
        error = await failing(buy(provider))
        await provider.aclose()

    assert (type(error), error.purchase_over) == (TransientError, True)
    assert wire.requests == []


async def test_unfinished_answers_take_bounded_memory():
    head = b"HTTP/1.1 201 Created\r\ncontent-length: 8000000\r\n\r\n"
    stalled = [(0, head + b" " * 300_000), (0, SILENCE)]
    wire = Wire(*[stalled] * 4, ANSWER)
    async with wire.serve() as url:
        provider = provided(url, most_unfinished=1_000_000)
        ended = []

        async def refused():
            ended.append(await failing(buy(provider)))

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(refused)
            await until(lambda: ended)
            bought = await buy(provider)
            group.cancel_scope.cancel()
        await provider.aclose()

    assert [type(error) for error in ended] == [AmbiguousCreateError]
    assert bought == Prediction("p1")
