"""Carries out the plan's events, and records those that the audit must know."""

import signal
import time
from collections import Counter

import anyio
from anyio import to_thread

from torture import questions
from torture.house import until
from torture.rescues import Kill

_SHUTDOWNS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill": signal.SIGKILL}
LINKS = ("half-open", "no-renewals", "hold", "cut")
LINK_DOUBTFUL = 25.0  # seconds after a link's fault in which the server may not notice its worker's death


class Violence:
    """Performs each event on a worker that is well, but only while more than a third of the workers are well."""

    def __init__(self, house):
        self._house = house
        self.done = Counter()
        self.kills = []
        self.outages = []  # (from, to), when every worker was cut off
        self.complaints = []

    async def perform(self, events):
        started_at = time.monotonic()
        async with anyio.create_task_group() as group:
            for event in events:
                await anyio.sleep(max(0.0, started_at + event.at - time.monotonic()))
                group.start_soon(self._perform, event, name=event.kind)

    async def watch(self):
        """Report workers that end without being stopped, and replace them."""
        while True:
            for slot in self._house.slots:
                if not slot.taken and slot.program.popen.poll() is not None:
                    self._complain(slot.program, f"ended by itself with {slot.program.popen.returncode}")
                    self._house.begin(slot)
            await anyio.sleep(0.2)

    async def end(self):
        """Stop all workers, as an operator would."""
        for slot in self._house.slots:
            slot.taken = True
            slot.program.popen.terminate()
        for slot in self._house.slots:
            await self._gone(slot.program)
        for program in self._house.programs:
            if program.trouble:
                self._complain(program, f"said: {program.trouble[-2000:]}")

    async def _perform(self, event):
        if event.kind in {"restart", "terminate"}:
            await {"restart": self._restart, "terminate": self._terminate}[event.kind](event)
        else:
            slot = await self._victim(event.slot)
            try:
                await self._strike(event, slot)
            finally:
                slot.taken = False
        self.done[event.kind] += 1

    async def _victim(self, preferred):
        house = self._house
        while True:
            turn = house.slots[preferred:] + house.slots[:preferred]
            worn = await questions.worn(house.url)
            well = [slot for slot in turn if slot.well]
            # A worker whose link was broken may not notice that for a while, and rescues no token meanwhile.
            able = [slot for slot in well if time.time() > slot.link_doubtful_until]
            if worn is not None and len(able) > len(house.slots) // 3:
                for slot in well:
                    if slot.program.key not in worn:
                        slot.taken = True
                        return slot
            await anyio.sleep(0.1)

    async def _strike(self, event, slot):
        match event.kind:
            case "kill":
                await self._kill(slot, event.seconds)
            case "stop":
                slot.program.popen.send_signal(signal.SIGSTOP)
                await anyio.sleep(event.seconds)
                slot.program.popen.send_signal(signal.SIGCONT)
            case "term" | "term-twice":
                slot.program.popen.terminate()
                if event.kind == "term-twice":
                    await anyio.sleep(event.seconds)
                    slot.program.popen.terminate()
                await self._gone(slot.program)
                self._house.begin(slot)
            case "half-open":
                await slot.link.half_open(event.seconds, event.how)
            case "no-renewals":
                await slot.link.half_open(event.seconds, "both", of="reactor renewals")
            case "hold":
                await slot.link.hold(event.seconds)
            case "cut":
                await slot.link.cut(event.seconds)
        if event.kind in LINKS:
            slot.link_doubtful_until = time.time() + LINK_DOUBTFUL

    async def _kill(self, slot, down):
        program = slot.program
        program.popen.kill()
        at = time.time()
        self.kills.append(Kill(at, program.number, at > slot.link_doubtful_until))
        await until(lambda: program.popen.poll() is not None)
        await anyio.sleep(down)
        self._house.begin(slot)

    async def _gone(self, program):
        try:
            await until(lambda: program.popen.poll() is not None)
        except TimeoutError:
            self._complain(program, "did not obey SIGTERM")
            program.popen.kill()
            program.popen.wait()
        else:
            # SIGTERM may kill a worker before its handler is set or after it has stopped. It holds no token then.
            deaf = program.popen.returncode == -signal.SIGTERM and (not program.key or program.told("worker.stopped"))
            if program.popen.returncode and not deaf:
                self._complain(program, f"answered SIGTERM with {program.popen.returncode}")

    async def _restart(self, event):
        begun_at = time.time()
        await to_thread.run_sync(self._house.server.stop, _SHUTDOWNS[event.how])
        await anyio.sleep(event.seconds)
        self._house.server.start()  # in the main thread, because the server ends with the thread that started it
        self.outages.append((begun_at, time.time()))

    async def _terminate(self, _event):
        while not await questions.terminate(self._house.url):  # noqa: ASYNC110  (only asking shows that it is back)
            await anyio.sleep(0.1)
        self.outages.append((time.time(), time.time()))

    def _complain(self, program, what):
        self.complaints.append(f"worker {program.number} {what}")
