"""A provider without latency, in its own process: the sandbox, or a bare server that costs next to nothing."""

import asyncio
import contextlib
import json
import math
import re
import ssl
import sys
import time

import anyio
import orjson
import trustme

from reactor.sandbox import Sandbox
from reactor.sandbox.predictions import Timing

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Bare:
    """Records every create, and answers with a succeeded prediction. Ends connections idle for `closes` seconds."""

    def __init__(self, closes=None):
        self.booked = []
        self._closes = closes

    async def answer(self, reader, writer):
        with anyio.move_on_after(self._closes) as idle, contextlib.suppress(asyncio.IncompleteReadError):
            await self._converse(reader, writer, idle)
        writer.close()

    async def _converse(self, reader, writer, idle):
        while head := await reader.readuntil(b"\r\n\r\n"):
            body = await reader.readexactly(int(_LENGTH.search(head)[1]))
            prompt = orjson.loads(body)["input"]["prompt"]
            self.booked.append((int(prompt), time.monotonic()))
            told = orjson.dumps(_succeeded(len(self.booked)))
            writer.write(b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\n")
            writer.write(b"content-length: %d\r\n\r\n%b" % (len(told), told))
            idle.deadline = anyio.current_time() + (self._closes or math.inf)


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


async def serve_sandbox(run=0.0):
    sandbox = Sandbox(Timing((0.0, 0.0), (run, run)))

    def booked():
        return [(int(bought.prompt), bought.requested_monotonic) for bought in sandbox.ledger]

    async with sandbox.serve() as base_url:
        await anyio.to_thread.run_sync(_obey, base_url, booked, sandbox.ledger.clear)


async def serve_bare(authority=None, closes=None):
    """Serve it, over TLS if `authority` names a file for the certificate of the authority to trust."""
    bare, tls = Bare(closes), None
    if authority:
        made, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.issue_cert("127.0.0.1").configure_cert(tls)
        made.cert_pem.write_to_path(authority)
    server = await asyncio.start_server(bare.answer, "127.0.0.1", 0, ssl=tls)
    host, port = server.sockets[0].getsockname()
    base_url = f"http{'s' if tls else ''}://{host}:{port}"
    await anyio.to_thread.run_sync(_obey, base_url, lambda: bare.booked, bare.booked.clear)


if __name__ == "__main__":
    config = json.loads(sys.argv[1])
    serve = {"sandbox": serve_sandbox, "bare": serve_bare}[config.pop("kind")]
    anyio.run(lambda: serve(**config), backend_options={"use_uvloop": True})
