"""Database, provider and worker for all cases. Provider and worker run in threads of their own."""

import asyncio
import io
import logging
import threading
import time
from contextlib import ExitStack, contextmanager

import asyncpg
from anyio.from_thread import start_blocking_portal
from doubles import SECRET, settings

from fuzz.cases import MARK, Case, Token
from fuzz.findings import wrong, wrong_line
from fuzz.measures import LONGEST_STEP, MOST_GROWTH, Growth, Steps
from fuzz.provider import Provider
from reactor.database.table import plain_query
from reactor.engine.timings import Timings
from reactor.engine.worker import Worker
from reactor.logs import HostLog, StructuredLog
from reactor.providers.limits import Limits
from reactor.providers.replicate import ReplicateProvider
from reactor.telemetry import Telemetry
from reactor.text.redaction import Redactor

WITHIN = 20.0  # seconds for an honest token, whatever tokens are beside it
TRIES = 3  # of a case that took too much time or memory: noise does not show up every time
SOON = Timings(sure_after=0.2, listing_every=0.05)
QUICK = Limits(first_poll=0.01, gone_after=0.0, answer_within=1.0)
INSERT = "INSERT INTO tokens_s0 (author_id{names}) VALUES ($1{values}) RETURNING token_id"
BUSY = "SELECT count(*) FROM tokens_s0 WHERE token_id = ANY ($1) AND status = 'generating'"
CLEAN = "TRUNCATE tokens_s0, authors; DELETE FROM reactor.intake; INSERT INTO reactor.intake DEFAULT VALUES"
WAKE = "public_tokens_s0_wake"


class Lines(logging.Handler):
    """Collects what is logged through `logging`: our own lines, and libraries' warnings, which would go to stderr."""

    def __init__(self):
        super().__init__()
        self.ours, self.others = [], []

    def emit(self, record):
        if record.name == "reactor":
            self.ours.append(record.getMessage().partition(" ")[2])
        elif record.levelno >= logging.WARNING:
            self.others.append(record.getMessage())


class House:
    """Runs cases, one after another."""

    def __init__(self, database, provider, out, lines, steps):
        self._runner = asyncio.Runner()
        self._provider, self._out, self._lines, self._steps = provider, out, lines, steps
        self._growth = Growth()
        self._connection = self._runner.run(asyncpg.connect(database, timeout=10))
        self._played = 0

    def close(self):
        self._runner.run(self._connection.close())
        self._runner.close()

    def play(self, case):
        """Run a case; return its faults. Too much time or memory counts only if every try shows it."""
        for _ in range(TRIES):
            found, costs = self._runner.run(self._once(case))
            if found or not costs:
                break
        return found + costs

    async def _once(self, case):
        marks = [f"zebrafish{self._played}quilt{place}xylophone" for place in range(len(case.tokens))]
        self._played += 1
        prompts = [token.prompt.replace(MARK, mark) for token, mark in zip(case.tokens, marks, strict=True)]
        tokens = dict(zip(marks, zip(prompts, case.tokens, strict=True), strict=True))
        self._provider.begin(tokens, case.pages, case.accounts)
        self._steps.begin()
        self._growth.begin()
        minted = [await self._mint(prompt, token) for prompt, token in tokens.values()]
        served = await self._served([token_id for token_id in minted if token_id is not None])
        costs = self._costs()
        found = [] if served else [f"an honest token was not served within {WITHIN:g} s"]
        found += [each for text in await self._stored() for each in wrong(text, marks, SECRET)]
        found += [each for line in self._said() for each in wrong_line(line, marks, SECRET)]
        found += [f"a library logged: {each[:500]!r}" for each in self._lines.others]
        self._lines.others.clear()
        await self._connection.execute(CLEAN)
        return found, costs

    async def _mint(self, prompt, token):
        columns = token.columns
        names, values = "".join(f", {name}" for name in columns), "".join(f", {value}" for value in columns.values())
        author = await self._connection.fetchval(
            "INSERT INTO authors (prompt_text) VALUES (repeat($1, $2)) RETURNING id", prompt, token.times
        )
        try:
            return await self._connection.fetchval(INSERT.format(names=names, values=values), author)
        except asyncpg.PostgresError:
            return None  # the table's CHECK constraints refuse the row

    async def _served(self, others):
        """Wait until an honest token has its image and no other is held; meanwhile open the gate like an operator."""
        honest, until = await self._mint("an honest lighthouse", Token("")), time.monotonic() + WITHIN
        while time.monotonic() < until:
            status = await self._connection.fetchval("SELECT status FROM tokens_s0 WHERE token_id = $1", honest)
            if status == "uploading" and not await self._connection.fetchval(BUSY, others):
                return True
            await self._connection.fetch(plain_query("resume"), WAKE)
            await asyncio.sleep(0.02)
        return False

    def _costs(self):
        steps, growth = self._steps, self._growth.most
        slow = f"a step took {steps.longest * 1000:.0f} ms: {steps.what}"
        large = f"memory grew by {growth:.0f} MB"
        return [slow] * (steps.longest > LONGEST_STEP) + [large] * (growth > MOST_GROWTH)

    async def _stored(self):
        rows = await self._connection.fetch(
            "SELECT generation_error FROM tokens_s0 WHERE generation_error !~ '^\\x1b+$'"
            " UNION ALL SELECT reason FROM reactor.intake WHERE reason IS NOT NULL"
        )
        return [row[0] for row in rows]

    def _said(self):
        told = self._out.getvalue().splitlines() + self._lines.ours
        self._out.seek(0)
        self._out.truncate()
        self._lines.ours.clear()
        return told


@contextmanager
def house(database):
    """Run a worker, its provider and the measurements during the block."""
    steps, out, lines = Steps(), io.StringIO(), Lines()
    root, ours = logging.getLogger(), logging.getLogger("reactor")
    with ExitStack() as stack:
        root.addHandler(lines)
        stack.callback(root.removeHandler, lines)
        stack.callback(ours.setLevel, ours.level)
        ours.setLevel(logging.DEBUG)
        provider = Provider(SECRET)
        url = stack.enter_context(served(provider))
        log = StructuredLog(Redactor([SECRET]), level="DEBUG", style="json", stream=out)
        stack.enter_context(steps.measured())
        stack.enter_context(working(database, url, log, steps))
        played = House(database, provider, out, lines, steps)
        stack.callback(played.close)
        played.play(Case(()))  # an empty case: first imports and connections must not count for a real one
        yield played


@contextmanager
def served(provider):
    """Run the provider in its own thread, so that its steps do not count as the worker's."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(provider.serve()) as url:
        yield url


@contextmanager
def working(database, url, log, steps):
    given = settings(database, breaker_threshold=0, worker_batch_size=100, max_attempts=2, rate_limit_per_minute=0,
        generation_timeout_seconds=1, lease_seconds=5, poll_interval_seconds=1)  # fmt: skip
    redact = Redactor(given.secrets())

    async def main(*, task_status):
        steps.thread = threading.get_ident()
        provider = ReplicateProvider(SECRET, base_url=url, limits=QUICK)
        worker = Worker(given, provider, Telemetry(log, HostLog(redact)), redact, timings=SOON)
        task_status.started(worker)
        await worker.run()
        await provider.aclose()

    with start_blocking_portal() as portal:
        ended, worker = portal.start_task(main)
        yield
        portal.call(worker.stop_now)
        ended.result(WITHIN)
