"""A provider with no latency, in a process of its own: the sandbox, or a bare stream that costs next to nothing."""

import json
import re
import sys
import time

import anyio
import orjson

from reactor.sandbox import Sandbox
from reactor.sandbox.predictions import Timing

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Bare:
    """Answers every create with a prediction that has succeeded, and books it."""

    def __init__(self):
        self.booked = []

    async def answer(self, reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            body = await reader.readexactly(int(_LENGTH.search(head)[1]))
            prompt = orjson.loads(body)["input"]["prompt"]
            self.booked.append((int(prompt), time.monotonic()))
            told = orjson.dumps(_succeeded(len(self.booked)))
            writer.write(b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\n")
            writer.write(b"content-length: %d\r\n\r\n%b" % (len(told), told))


def _succeeded(number):
    return {
        "id": f"bench{number}",
        "model": "black-forest-labs/flux-schnell",
        "version": "hidden",
        "input": {"prompt": "bench"},
        "logs": "",
        "output": ["https://replicate.delivery/image.webp"],
        "error": None,
        "status": "succeeded",
        "created_at": "2026-01-01T00:00:00.000Z",
        "started_at": "2026-01-01T00:00:00.000Z",
        "completed_at": "2026-01-01T00:00:00.000Z",
        "metrics": {"predict_time": 0.0},
        "urls": {"get": "https://x/get", "cancel": "https://x/cancel"},
    }


def _obey(base_url, booked, forget):
    print("ready", flush=True)
    for line in sys.stdin:
        answer = {"url": lambda: base_url, "starts": booked, "forget": forget}[line.strip()]()
        print(json.dumps(answer), flush=True)


async def serve_sandbox():
    sandbox = Sandbox(Timing.instant())

    def booked():
        return [(int(bought.prompt), bought.requested_monotonic) for bought in sandbox.ledger]

    async with sandbox.serve() as base_url:
        await anyio.to_thread.run_sync(_obey, base_url, booked, sandbox.ledger.clear)


async def serve_bare():
    import asyncio  # noqa: PLC0415

    bare = Bare()
    server = await asyncio.start_server(bare.answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    await anyio.to_thread.run_sync(_obey, f"http://{host}:{port}", lambda: bare.booked, bare.booked.clear)


if __name__ == "__main__":
    serve = {"sandbox": serve_sandbox, "bare": serve_bare}[json.loads(sys.argv[1])["kind"]]
    anyio.run(serve, backend_options={"use_uvloop": True})
