"""A reactor as `run` starts it, with its HTTP port, and clients of it."""

from contextlib import asynccontextmanager

import anyio
import httpx
import ports
import uvicorn
from doubles import Log, settings, until

from reactor import run
from reactor.telemetry import Telemetry
from reactor.web import Site, mounted
from reactor.web.changes import StreamTimings

TOKEN, READ_TOKEN = "a-long-http-token", "a-token-to-look-with"


@asynccontextmanager
async def served(database, base_url="http://127.0.0.1:1", **overrides):
    """Run a reactor; yield a client of its port, and its log."""
    log = Log()
    with ports.kept() as port:
        given = settings(database, **{"replicate_base_url": base_url, "http_port": port, **overrides})
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: run(given, log=log))
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
                with anyio.fail_after(10):
                    while True:
                        try:
                            await client.get("/livez")
                            break
                        except httpx.ConnectError:  # the port is not open yet
                            await anyio.sleep(0.01)
                yield client, log
            group.cancel_scope.cancel()


@asynccontextmanager
async def hosted(database, **timings):
    """The page in a server that waits for the answers it has begun, as a host's does; the server, and its URL."""
    site = Site(settings(database), Telemetry(Log()), streams=StreamTimings(**timings))

    async def started():
        return server.started

    try:
        with ports.kept() as port:
            server = uvicorn.Server(uvicorn.Config(mounted(site), port=port, lifespan="off", log_config=None))
            async with anyio.create_task_group() as group:
                group.start_soon(server.serve)
                await until(started)
                yield server, f"http://127.0.0.1:{port}"
                server.should_exit = True
    finally:
        await site.aclose()
