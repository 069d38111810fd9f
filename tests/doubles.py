"""Doubles: a provider that follows a test's script, and a log whose events a test can wait for."""

import itertools
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import anyio
from roles import as_worker

from reactor.database.store import Store
from reactor.engine.timings import TIMINGS, Timings
from reactor.engine.worker import Worker
from reactor.errors import GenerationError
from reactor.providers import Prediction
from reactor.settings import Settings
from reactor.telemetry import Telemetry
from reactor.text.redaction import Redactor

SECRET = "r8_a_secret_that_must_not_be_told"
# Deletes the gate's row, and forbids to insert it again.
NO_GATE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no' USING ERRCODE = '42501'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON reactor.intake EXECUTE FUNCTION refuse();
DELETE FROM reactor.intake;
"""


def is_late_renewal(event):
    """Whether a renewal got no answer within a third of the lease: a loaded machine can be too slow for a short one."""
    return (event["event"], event.get("role"), event.get("error_type")) == ("worker.error", "leases", "TimeoutError")


async def until(asked, seconds=10):
    """Ask again and again until the answer is true, with pauses that leave the processor to others."""
    with anyio.fail_after(seconds):
        while not await asked():  # noqa: ASYNC110  (only asking tells)
            await anyio.sleep(0.01)


async def ended(waiting):
    """The image that a provider waited for, or the error without one."""
    prediction = await waiting
    if prediction.error is not None:
        raise prediction.error
    return prediction.image_url


# The last parameters of statements, if nothing is accounted for.
UNACCOUNTED = {
    "record": lambda *_: (5, [0]),
    "settle": lambda ids, *_: (11, [[None] * len(ids), [False] * len(ids), 0]),
    "censor": lambda *_: (5, [None, None, 0]),
    "rescue": lambda *_: (7, [None]),
}


def unaccounted(name, arguments):
    """The arguments of one of the worker's statements, and those that a test did not give."""
    if name not in UNACCOUNTED:
        return arguments
    least, more = UNACCOUNTED[name](*arguments)
    return [*arguments, *more[len(arguments) - least :]]


class Log:
    """A sink that keeps every event, and wakes the tests that wait for one."""

    def __init__(self):
        self.events = []
        self._news = anyio.Event()

    def __call__(self, event, fields):
        self.events.append({"event": event, **fields})
        news, self._news = self._news, anyio.Event()
        news.set()

    def of(self, event, **fields):
        wanted = {"event": event, **fields}
        return [told for told in self.events if wanted.items() <= told.items()]

    def errors(self):
        """Every `worker.error`, apart from late renewals."""
        return [told for told in self.of("worker.error") if not is_late_renewal(told)]

    async def wait(self, event, times=1, **fields):
        with anyio.move_on_after(20) as waiting:
            while len(self.of(event, **fields)) < times:
                await self._news.wait()
        assert not waiting.cancelled_caught, f"no {event} {fields or ''} in {self.events[-40:]}"
        return self.of(event, **fields)[times - 1]

    async def idle(self):
        """Wait until a claim found fewer tokens than slots. From now on only a wake starts another claim."""
        with anyio.fail_after(20):
            while not any(told["count"] < told["slots"] for told in self.of("tokens.claimed")):
                await self._news.wait()

    @property
    def text(self):
        return json.dumps(self.events, default=str)


class DirectedProvider:
    """Answers each call as the test scripted: an exception is raised, a callable is called, None is the default."""

    seedable = True
    finds_since = datetime.min.replace(tzinfo=UTC)

    def __init__(self):
        self.script = {"create": [], "wait": [], "find": [], "cancel": [], "check": []}
        self.calls = []  # all but checks
        self.checked = []
        self.bought = {}
        self._ids = map("prediction{}".format, itertools.count(1))

    def hiding(self, *_prompts):
        return self

    def asked(self, what):
        return [argument for name, argument in self.calls + self.checked if name == what]

    async def _next(self, what, argument, default):
        (self.checked if what == "check" else self.calls).append((what, argument))
        answer = self.script[what].pop(0) if self.script[what] else None
        if callable(answer):
            answer = await answer(argument)
        if isinstance(answer, Exception):
            raise answer
        return default if answer is None else answer

    def buy(self, prompt, seed):
        prediction = Prediction(next(self._ids))
        self.bought[seed] = prediction
        return prediction

    async def create(self, prompt, seed):
        answer = await self._next("create", (prompt, seed), None)
        return answer or self.buy(prompt, seed)

    async def wait(self, prediction, seen):
        try:
            url = await self._next("wait", prediction.id, f"https://replicate.delivery/{prediction.id}.webp")
        except GenerationError as error:
            if not error.purchase_over:
                raise
            return replace(prediction, error=error, images=0)
        return url if isinstance(url, Prediction) else replace(prediction, image_url=url, images=1)

    async def find(self, seed, since):
        return await self._next("find", seed, self.bought.get(seed))

    async def cancel(self, prediction):
        return await self._next("cancel", prediction.id, prediction)

    async def check(self):
        await self._next("check", None, None)

    async def keep_warm(self):
        pass

    async def aclose(self):
        pass


def settings(database, **overrides):
    values = {
        "database_url": database,
        "replicate_api_token": SECRET,
        "fallback_censored_prompt": "a calm sea",
        "poll_interval_seconds": 60,
        "http_port": 0,
        **overrides,
    }
    return Settings.load(_env_file=None, **values)


async def refuse(connection, when, *, state="P0001"):
    """Make a host's trigger refuse the updates for which the condition `when` is true."""
    await connection.execute(
        f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN IF {when} THEN RAISE EXCEPTION 'not this one' USING ERRCODE = '{state}'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON tokens_s0 FOR EACH ROW EXECUTE FUNCTION refuse();
        """
    )


class Barrier:
    """Holds a call of the provider until the test opens the barrier."""

    def __init__(self):
        self._entered, self._open = anyio.Event(), anyio.Event()

    async def __call__(self, _argument):
        self._entered.set()
        await self._open.wait()

    async def entered(self):
        with anyio.fail_after(10):
            await self._entered.wait()

    def open(self):
        self._open.set()


LOOKING = Timings(check_every=0.001)  # at the gate, all the time


@asynccontextmanager
async def running(
    database, provider, *, connected=True, idle=True, timings=TIMINGS, store=Store, sinks=(), **overrides
):
    """A worker that listens and has claimed what was due. At the end it is stopped, and its tokens are handed back."""
    log = Log()
    given = settings(await as_worker(database, overrides), **overrides)
    redact = Redactor(given.secrets())
    worker = Worker(given, provider, Telemetry(log, *sinks), redact, timings=timings, store=store)
    async with anyio.create_task_group() as group:
        group.start_soon(worker.run)
        if connected:
            await log.wait("listener.connected")
        if connected and idle:
            await log.idle()
        try:
            yield worker, log
        finally:
            worker.stop_now()
