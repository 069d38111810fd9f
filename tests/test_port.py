"""The HTTP port among hostile neighbours, who can open connections, send anything, and wait."""

import contextlib
import errno
import json
import os
import random
import resource
import socket
import sys
import typing
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx
import ports
import pytest
from doubles import SECRET, Log, settings
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from reactor.hosts import LoopbackOnly
from reactor.measures import REFUSALS
from reactor.sandbox import Sandbox, Timing
from reactor.telemetry import Telemetry
from reactor.web import Keys, Refusals, Site, application, serve
from reactor.web.refusals import Reason
from reactor.web.server import beside_the_engine
from reactor.web.wrong_tokens import WrongTokens

pytestmark = pytest.mark.anyio

REACTOR = Path(sys.executable).with_name("reactor")
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
HALF = b"GET /livez HTTP/1.1\r\nHost: loc"
ATTACKERS = 300
DESCRIPTORS = 128


class Port:
    """A served port: its number, its log, and an application whose `/waiting` answers once `answer` is set."""

    def __init__(self, number):
        self.number = number
        self.log = Log()
        self.waiting = 0
        self.answer = anyio.Event()
        self.left = anyio.Event()
        routes = [Route("/livez", self._livez), Route("/waiting", self._wait), Route("/endless", self._stream)]
        self.app = Starlette(routes=[*routes, Route("/broken", self._break)])

    async def _livez(self, _request):
        return PlainTextResponse("ok\n")

    async def _wait(self, _request):
        self.waiting += 1
        await self.answer.wait()
        return PlainTextResponse("ok\n")

    async def _stream(self, _request):
        async def pieces():
            try:
                while True:
                    yield b"x" * 65536
                    await anyio.lowlevel.checkpoint()
            finally:
                self.left.set()

        return StreamingResponse(pieces())

    async def _break(self, _request):
        raise KeyError("a fault of ours")

    async def connect(self):
        """Connect once the port is open: a process that opens it may still be starting."""
        while True:
            with suppress(OSError):
                return await anyio.connect_tcp("127.0.0.1", self.number)
            await anyio.sleep(0.01)

    async def says(self, content):
        """Send `content` over a new connection; return what comes until the port closes it."""
        async with await self.connect() as client:
            await client.send(content)
            return await everything(client)

    async def lives(self):
        return (await self.says(LIVEZ.replace(b"Host", b"Connection: close\r\nHost"))).endswith(b"ok\n")


async def answer_of(client):
    """One answer of the test's application; its head and body may arrive separately."""
    said = b""
    with anyio.fail_after(10):
        while not said.endswith(b"ok\n"):
            said += await client.receive()
    return said


async def everything(client):
    """All bytes that a connection receives until the peer closes it."""
    said = b""
    with anyio.fail_after(10), suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            said += await client.receive()
    return said


@pytest.fixture
def free_port():
    with ports.kept() as number:
        yield number


@pytest.fixture
def serving(free_port):
    @asynccontextmanager
    async def serving(app=None, **given):
        port = Port(free_port)
        async with anyio.create_task_group() as group:
            refusals = Refusals(Telemetry(port.log))
            group.start_soon(lambda: serve(app or port.app, refusals, host="127.0.0.1", port=free_port, **given))
            yield port
            group.cancel_scope.cancel()

    return serving


@pytest.fixture
def impatient(serving):
    return partial(serving, client_timeout=0.3)  # less is over before a client on a busy machine has sent its request


@asynccontextmanager
async def worker(database, base_url, port):
    """A worker process that may open DESCRIPTORS files."""
    command = ["sh", "-c", f'ulimit -n {DESCRIPTORS}; exec "$0" run', REACTOR]
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database,
        "REPLICATE_API_TOKEN": SECRET,
        "REPLICATE_BASE_URL": base_url,
        "FALLBACK_CENSORED_PROMPT": "a calm sea",
        "HTTP_PORT": str(port),
    }
    process = await anyio.open_process(command, env=environment, cwd="/")
    try:
        yield process
    finally:
        process.terminate()
        with anyio.CancelScope(shield=True):
            out, err = await everything(process.stdout), await everything(process.stderr)
            await process.wait()
            await process.aclose()
    process.said = out.decode().splitlines(), err.decode()


async def test_unfinished_requests_of_anybody_take_no_descriptor_from_the_engine(
    database, connection, make_token, free_port
):
    port = Port(free_port)
    served = "SELECT count(*), count(DISTINCT image_url), max(generation_attempts) FROM tokens_s0, pg_sleep(0.05) "
    async with (
        Sandbox(Timing.instant()).serve() as base_url,
        contextlib.AsyncExitStack() as attackers,
        worker(database, base_url, free_port) as process,
    ):
        await port.lives()
        for _ in range(ATTACKERS):
            client = await attackers.enter_async_context(await port.connect())
            await client.send(HALF)
        for _ in range(40):
            await make_token()
        with anyio.fail_after(30):
            while (row := await connection.fetchrow(served + "WHERE status = 'uploading'"))[0] < 40:
                pass  # ask again until the rows are there
        lives = await port.lives()

    assert tuple(row) == (40, 40, 0)
    assert lives
    out, err = process.said
    events = [json.loads(line) for line in out]
    assert err == ""
    assert not [told for told in events if told["event"] == "worker.error"]
    refused = [told for told in events if told["event"] == "http.refused"]
    assert sum(told["count"] for told in refused) >= ATTACKERS - DESCRIPTORS
    assert len(refused) <= 3


@pytest.mark.parametrize(
    ("soft", "slots", "expected"),
    [(1024, 10, 64), (256, 10, 64), (128, 10, 44), (64, 10, 4), (1024, 1000, 4), (resource.RLIM_INFINITY, 1000, 64)],
)
def test_the_engine_keeps_the_descriptors_it_needs(soft, slots, expected):
    assert beside_the_engine(soft, slots) == expected


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(HALF, id="half a head"),
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999\r\n\r\n", id="no body"),
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", id="no chunk"),
        pytest.param(LIVEZ, id="no further request"),
        pytest.param(LIVEZ + HALF, id="half a second request"),
    ],
)
async def test_a_client_that_keeps_the_port_waiting_is_closed(impatient, begin):
    async with impatient() as port:
        said = await port.says(begin)

    assert said.count(b"ok\n") == (b"\r\n\r\n" in begin)
    assert all(told == {"event": "http.refused", "count": 1, "slow": 1} for told in port.log.events)
    assert bool(port.log.events) is (begin not in {b"", LIVEZ})


@pytest.mark.parametrize("begin", [HALF, LIVEZ.replace(b"\r\n\r\n", b"\r\nContent-Length: 999999\r\n\r\n")])
async def test_bytes_one_by_one_win_no_time(impatient, begin):
    async with impatient() as port, await port.connect() as client:
        await client.send(begin)
        with anyio.fail_after(10), suppress(anyio.BrokenResourceError, anyio.EndOfStream):
            while True:
                await client.send(b"x")
                await anyio.sleep(0.001)

    assert port.log.of("http.refused", slow=1)


async def test_a_client_that_does_not_take_its_answer_is_closed(impatient):
    async with impatient() as port, await port.connect() as client:
        await client.send(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with anyio.fail_after(10):
            await port.left.wait()

    assert port.log.of("http.refused", slow=1)


async def test_an_answer_may_take_longer_than_a_request(impatient):
    async with impatient() as port, await port.connect() as client:
        await client.send(b"GET /waiting HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await port.says(b"")  # returns once the port has lost patience with this connection
        port.answer.set()
        said = await answer_of(client)

    assert said.startswith(b"HTTP/1.1 200 ")


async def test_a_new_client_takes_the_place_of_the_one_that_waited_longest(serving):
    async with serving(most=3) as port, contextlib.AsyncExitStack() as clients:
        asking = await clients.enter_async_context(await port.connect())
        await asking.send(b"GET /waiting HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with anyio.fail_after(10):
            while not port.waiting:
                await anyio.lowlevel.checkpoint()
        first, second = [await clients.enter_async_context(await port.connect()) for _ in range(2)]
        for client in (first, second):
            await client.send(HALF)
        lives = await port.lives()
        closed = await everything(first)
        await second.send(LIVEZ.removeprefix(HALF))
        port.answer.set()
        answers = [await answer_of(client) for client in (second, asking)]

    assert lives
    assert closed == b""
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    assert port.log.events == [{"event": "http.refused", "count": 1, "crowded": 1}]


async def test_a_client_keeps_its_place_before_the_crowd_of_another_address(serving):
    async with serving(most=3) as port, contextlib.AsyncExitStack() as clients:
        await port.lives()
        alone = await anyio.connect_tcp("127.0.0.1", port.number, local_host="127.0.0.2")
        await clients.enter_async_context(alone)
        await alone.send(HALF)
        crowd = [await clients.enter_async_context(await port.connect()) for _ in range(6)]
        closed = [await everything(client) for client in crowd[:4]]
        await alone.send(LIVEZ.removeprefix(HALF))
        answer = await answer_of(alone)

    assert closed == [b""] * 4
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_probe_is_answered_where_all_places_are_taken_by_answers_under_way(serving):
    async with serving(most=2) as port, contextlib.AsyncExitStack() as clients:
        for _ in range(2):
            client = await clients.enter_async_context(await port.connect())
            await client.send(b"GET /waiting HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with anyio.fail_after(10):
            while port.waiting < 2:
                await anyio.lowlevel.checkpoint()

        assert await port.lives()
        port.answer.set()


async def test_a_port_without_a_descriptor_says_so_and_goes_on(serving):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving() as port:
        assert await port.lives()
        with socket.socket() as client, socket.socket() as highest:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (highest.fileno() + 1, before[1]))
                taken = fill()
                client.connect(("127.0.0.1", port.number))
                told = await port.log.wait("worker.error", role="http")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
                for each in taken:
                    os.close(each)

        assert await port.lives()
    assert os.strerror(errno.EMFILE) in told["error_message"]


def fill():
    """Use up all free file descriptors; return them."""
    taken = []
    with suppress(OSError):
        while True:
            taken.append(os.dup(0))
    return taken


JUNK = (
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"GET\r\n\r\n",
    b"GET /livez HTTP/1.1\r\n\r\n",
    b"\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 100_000,
    LIVEZ.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n") + b"no chunk\r\n",
    LIVEZ + b"\x00\r\n\r\n",
)


@pytest.mark.parametrize("junk", JUNK)
async def test_a_request_that_makes_no_sense_is_counted_and_writes_no_line(serving, capfd, caplog, junk):
    async with serving() as port:
        await port.says(junk)
        assert await port.lives()

    assert port.log.events == [{"event": "http.refused", "count": 1, "malformed": 1}]
    assert (capfd.readouterr(), caplog.records) == (("", ""), [])


async def test_a_request_to_upgrade_is_answered_without_a_line(impatient, capfd, caplog):
    async with impatient() as port:
        said = await port.says(LIVEZ.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"))

    assert said.endswith(b"ok\n")
    assert (capfd.readouterr(), caplog.records) == (("", ""), [])


async def test_random_bytes_do_no_harm(serving, capfd, caplog):
    dice = random.Random(13)
    async with serving() as port:
        for _ in range(100):
            junk = bytearray(dice.choice([*JUNK[1:7], LIVEZ * 3]))
            for _ in range(dice.randrange(1, 9)):
                junk[dice.randrange(len(junk))] = dice.randrange(256)
            async with await port.connect() as client:
                with suppress(anyio.BrokenResourceError):
                    await client.send(bytes(junk))
        assert await port.lives()

    assert {told["event"] for told in port.log.events} == {"http.refused"}
    assert (capfd.readouterr(), caplog.records) == (("", ""), [])


async def test_a_flood_of_junk_is_one_event_and_a_second_with_the_count(serving):
    async with serving() as port:
        for _ in range(20):
            await port.says(JUNK[0])

    first, rest = port.log.events
    assert first == {"event": "http.refused", "count": 1, "malformed": 1}
    assert rest == {"event": "http.refused", "count": 19, "malformed": 19}


async def test_refusals_of_a_minute_are_told_together():
    log = Log()
    refusals = Refusals(Telemetry(log), emit_every=0.01)
    for _ in range(5):
        refusals.met("host")
    await log.wait("http.refused", count=4)
    refusals.met("slow")
    await log.wait("http.refused", slow=1)

    assert [(told["count"], told.get("host"), told.get("slow")) for told in log.events] == [
        (1, 1, None),
        (4, 4, None),
        (1, None, 1),
    ]
    refusals.end()


async def test_a_fault_of_ours_is_an_event(serving, capfd, caplog):
    async with serving() as port, await port.connect() as client:
        await client.send(b"GET /broken HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with anyio.fail_after(10):
            assert (await client.receive()).startswith(b"HTTP/1.1 500 ")

    (told,) = port.log.events
    assert (told["event"], told["role"], told["error_type"]) == ("worker.error", "http", "KeyError")
    assert (capfd.readouterr(), caplog.records) == (("", ""), [])


def test_every_reason_to_refuse_has_its_series():
    assert typing.get_args(Reason) == REFUSALS


class _Health:
    async def ready(self):
        return True, {"intake": None}

    async def gauges(self):
        return {}


class _Metrics:
    def render(self, _gauges):
        return b"reactor_slots_in_use 1.0\n"


def pages(log, host="127.0.0.1", token=None, wrong=None):
    site = Site(settings("postgresql://nobody@127.0.0.1:1/nowhere"), Telemetry(log))
    keys = Keys(token, None)
    return application(site, _Health(), _Metrics(), Refusals(Telemetry(log)), keys=keys, host=host, wrong=wrong)


async def ask(app, path="/metrics", **headers):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1") as client:
        return await client.get(path, headers=headers)


@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/livez", "/", "/metrics/"])
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8787", "10.0.0.1", "localhost.evil.example", "127.0.0.1.evil.example", "[::2]"],
)
async def test_at_loopback_a_request_for_another_host_is_refused(path, host):
    """DNS rebinding: a page in the operator's browser makes its own name resolve to 127.0.0.1."""
    log = Log()

    answer = await ask(pages(log), path, host=host)

    assert (answer.status_code, answer.text.count("\n")) == (421, 1)
    assert "evil" not in str(answer.headers) + answer.text
    assert log.events == [{"event": "http.refused", "count": 1, "host": 1}]


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8787", "LocalHost:1", "localhost.", "127.0.0.1", "127.0.0.1:9000", "[::1]", "[::1]:8787"],
)
async def test_at_loopback_this_machine_is_served_whatever_it_is_called(host):
    assert (await ask(pages(Log()), host=host)).status_code == 200


async def test_a_health_check_without_a_host_is_served(serving):
    async with serving(pages(Log())) as port:
        said = await port.says(b"GET /livez HTTP/1.0\r\n\r\n")

    assert said.endswith(b"ok\n")


@pytest.mark.parametrize(("path", "status"), [("/livez", 200), ("/readyz", 200), ("/metrics", 401)])
async def test_off_loopback_probes_name_any_host_and_all_else_needs_the_token(path, status):
    app = pages(Log(), host="10.1.2.3", token="a token")

    assert (await ask(app, path, host="10.1.2.3:8787")).status_code == status


async def test_no_request_is_redirected_to_the_host_that_it_names():
    app = pages(Log(), host="10.1.2.3", token="a token")

    answer = await ask(app, "/metrics/", host="evil.example", authorization="Bearer a token")

    assert (answer.status_code, "location" in answer.headers) == (404, False)


async def test_a_wrong_token_is_counted():
    log = Log()

    await ask(pages(log, token="a token"), authorization="Bearer another")

    assert log.events == [{"event": "http.refused", "count": 1, "token": 1}]


class Waits:
    """A clock and a sleep for WrongTokens: keeps how long each wrong token should wait, until `end` is set."""

    def __init__(self):
        self.now = 1000.0
        self.asked = []
        self.end = anyio.Event()
        self.wrong = WrongTokens(clock=lambda: self.now, sleep=self._sleep)

    async def _sleep(self, seconds):
        self.asked.append(round(seconds, 3))
        await self.end.wait()


@pytest.fixture
def waits():
    """Waits that end at once."""
    waits = Waits()
    waits.end.set()
    return waits


async def sign_in(app, token):
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.post("/sign-in", data={"token": token})


async def test_wrong_tokens_wait_the_longer_the_more_came_in_the_last_minute(waits):
    app = pages(Log(), token="a token", wrong=waits.wrong)

    for _ in range(6):
        assert (await ask(app, authorization="Bearer another")).status_code == 401
        assert (await sign_in(app, "another")).status_code == 403
    waits.now += 60
    await ask(app, authorization="Bearer another")

    assert waits.asked == [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.5, 0.5, 0.05]


async def test_a_right_token_never_waits_and_few_wrong_ones_wait_at_once():
    waits = Waits()
    app = pages(Log(), token="a token", wrong=waits.wrong)

    async with anyio.create_task_group() as group:
        with anyio.fail_after(10):
            for waiting in range(1, 9):
                group.start_soon(lambda: ask(app, authorization="Bearer another"))
                while len(waits.asked) < waiting:
                    await anyio.lowlevel.checkpoint()
                right = await ask(app, authorization="Bearer a token")
                signed_in = await sign_in(app, "a token")
            one_more = await ask(app, authorization="Bearer another")
            waits.end.set()
    after = await ask(app, authorization="Bearer another")

    assert (right.status_code, signed_in.status_code, one_more.status_code, after.status_code) == (200, 303, 401, 401)
    assert len(waits.asked) == 9


async def test_a_place_is_free_again_if_its_client_is_cancelled():
    waits = Waits()
    for _ in range(20):
        with anyio.move_on_after(0):
            await waits.wrong.met()

    assert len(waits.asked) == 20


@pytest.mark.parametrize(
    ("path", "headers", "waited"),
    [
        ("/metrics", {}, 0),
        ("/metrics", {"cookie": "reactor_session=act.1.x.y"}, 0),
        ("/livez", {"authorization": "Bearer another"}, 0),
        ("/readyz", {"authorization": "Bearer another"}, 1),
        ("/readyz", {"authorization": "Bearer a token"}, 0),
        ("/metrics", {"authorization": "Bearer a token"}, 0),
        ("/metrics", {"authorization": "bearer"}, 1),
        ("/", {"authorization": "Bearer another", "accept": "text/html"}, 1),
    ],
)
async def test_only_a_guess_waits_and_wherever_a_token_can_be_guessed(waits, path, headers, waited):
    await ask(pages(Log(), token="a token", wrong=waits.wrong), path, **headers)

    assert len(waits.asked) == waited


async def test_loopback_only_lets_other_traffic_pass():
    seen = []

    async def app(scope, _receive, _send):
        seen.append(scope["type"])

    await LoopbackOnly(app)({"type": "lifespan"}, None, None)

    assert seen == ["lifespan"]
