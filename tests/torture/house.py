"""A database, a provider, a fleet of workers, each behind its own link, and a producer."""

import json
import time
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import asyncpg
import httpx

from reactor.migrations import revisions
from torture import history, questions
from torture.plan import FALLBACK
from torture.processes import Program, module, reactor, start
from torture.profiles import SLOTS
from torture.proxy import Link

PRICE = "0.003"  # of an image
ANSWERS_WITHIN = 60.0  # seconds for a program to start or to end
_PROVIDER = {
    "timing": {"queue": [0.02, 0.1], "run": [0.05, 0.8]},
    "faults": [
        {"kind": "503", "on": "get", "probability": 0.01},
        {"kind": "reset", "on": "get", "probability": 0.01},
        {"kind": "hang", "on": "get", "probability": 0.0002},
        {"kind": "500", "on": "list", "probability": 0.03},
        {"kind": "close", "on": "list", "probability": 0.02},
        {"kind": "truncated", "on": "list", "probability": 0.01},
    ],
}


class Slot:
    """A place for a worker, with a link that stays when the worker's process is replaced."""

    def __init__(self, link):
        self.link = link
        self.program = None
        self.taken = False  # whether an event of the plan is using it
        self.link_doubtful_until = 0.0

    @property
    def well(self):
        return not self.taken and self.program is not None and self.program.listens


class House:
    """All programs of a torture."""

    def __init__(self, name, profile, seed, *, server, folder):
        self.profile = profile
        self.server = server
        self.url = server.url("torture")
        self.programs = []
        self.slots = []
        self._name, self._seed = name, seed
        self._folder = Path(folder)
        self._others = []
        self.base_url = ""

    @asynccontextmanager
    async def inhabited(self):
        """Run everything but the producer during the block; then kill every process."""
        await self._create_database()
        try:
            async with anyio.create_task_group() as links:
                for _ in range(self.profile.workers):
                    slot = Slot(Link(self.server_port))
                    await links.start(slot.link.run)
                    self.slots.append(slot)
                await self._open_sandbox()
                for slot in self.slots:
                    self.begin(slot)
                await until(lambda: all(slot.well for slot in self.slots))
                yield self
                links.cancel_scope.cancel()
        finally:
            for popen in [*self._others, *(program.popen for program in self.programs)]:
                popen.kill()
                popen.wait()

    @property
    def server_port(self):
        return httpx.URL(self.url).port

    async def _create_database(self):
        connection = await asyncpg.connect(self.server.url("postgres"))
        await connection.execute("CREATE DATABASE torture")
        await connection.close()
        await revisions.upgrade(self.url)
        await history.create(self.url)

    async def _open_sandbox(self):
        log = self._folder / "sandbox.log"
        config = json.dumps({**_PROVIDER, "seed": self._seed})
        self._others.append(start(reactor("sandbox", "--port", "0", "--config", config), log=log))
        await until(lambda: log.read_bytes().endswith(b"\n"))
        self.base_url = log.read_text().strip()

    def begin(self, slot):
        """Start a worker in a slot."""
        number = len(self.programs)
        log = self._folder / f"worker-{number}.log"
        url = f"postgresql://postgres@127.0.0.1:{slot.link.port}/torture?options=-c%20{history.PROCESS}%3D{number}"
        popen = start(reactor("run"), log=log, **self.settings(url))
        slot.program = Program(number, popen, log)
        self.programs.append(slot.program)

    def settings(self, url):
        """The settings of a worker on the database at `url`."""
        return {
            "DATABASE_URL": url,
            "REPLICATE_API_TOKEN": "r8_torture",
            "REPLICATE_BASE_URL": self.base_url,
            "FALLBACK_CENSORED_PROMPT": FALLBACK,
            "POLL_INTERVAL_SECONDS": "2",
            "WORKER_BATCH_SIZE": str(SLOTS),
            "MAX_ATTEMPTS": "4",
            "LEASE_SECONDS": str(self.profile.lease),
            "GENERATION_TIMEOUT_SECONDS": str(self.profile.timeout),
            "SHUTDOWN_GRACE_SECONDS": "1",
            "RATE_LIMIT_PER_MINUTE": "6000",
            "PRICE_PER_IMAGE": PRICE,
            "HTTP_PORT": "0",
        }

    def mint(self):
        """Start the producer; return its process and the file for its report."""
        log = self._folder / "producer.log"
        popen = start(module("torture.producer", self.url, self._name, str(self._seed)), log=log)
        self._others.append(popen)
        return popen, log

    async def quiet(self):
        """Wait until no token is detected or generating, as long as the profile allows."""
        with anyio.move_on_after(self.profile.quiet_within):
            while True:
                counts = await questions.counts(self.url)
                if counts and not counts["detected"] + counts["generating"]:
                    return
                await anyio.sleep(0.3)

    async def ledger(self):
        """The provider's ledger: all purchases."""
        async with httpx.AsyncClient(timeout=60) as client:
            return (await client.get(f"{self.base_url}/sandbox/ledger")).json()


async def until(condition, within=ANSWERS_WITHIN):
    """Ask until the condition is true."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the torture's own house is not in order")
        await anyio.sleep(0.05)
