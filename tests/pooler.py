"""A stand-in for PgBouncer before a real server: it does what a client can see before its first statement."""

from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

import anyio
from anyio.abc import SocketAttribute
from anyio.streams.buffered import BufferedByteReceiveStream

TAKEN = {"user", "database", "application_name", "client_encoding", "datestyle", "timezone"}
GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.IncompleteRead)
TLS = 80877103


@asynccontextmanager
async def pooler(url, *, ignores=False):
    """The pooler's URL. It refuses or ignores unknown startup parameters, and reports a process id that is its own."""
    parts = urlsplit(url)

    async def talk(client):
        with suppress(*GONE):
            async with client, await anyio.connect_tcp(parts.hostname, parts.port) as server:
                await begin(client, server, ignores=ignores)
                async with anyio.create_task_group() as group:
                    group.start_soon(copy, client, server)
                    await introduce(client, server)
                    await copy(server, client)
                    group.cancel_scope.cancel()

    async with in_front(parts, talk) as front:
        yield front


@asynccontextmanager
async def in_front(parts, talk, host="127.0.0.1"):
    """The URL of a port at which `talk` serves each client, in front of the server of the split URL."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)  # noqa: S610  (not Django's)
    user = parts.netloc.rpartition("@")[0]
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, talk)
        yield urlunsplit(parts._replace(netloc=f"{user}@{host}:{port}"))
        group.cancel_scope.cancel()


async def begin(client, server, *, ignores):
    """Pass the client's startup message on, without what is ignored; or refuse it."""
    asking = BufferedByteReceiveStream(client)
    start = await message(asking, kind=0)
    if int.from_bytes(start[4:8], "big") == TLS:
        await client.send(b"N")
        start = await message(asking, kind=0)
    words = start[8:].split(b"\0")[:-2]
    given = dict(zip(words[::2], words[1::2], strict=True))
    if ignores:
        kept = b"".join(b"%s\0%s\0" % item for item in given.items() if item[0].decode() in TAKEN) + b"\0"
        start = (len(kept) + 8).to_bytes(4, "big") + start[4:8] + kept
    elif unknown := {name.decode() for name in given} - TAKEN:
        words = b"SFATAL\0C08P01\0Munsupported startup parameter: %s\0\0" % ", ".join(unknown).encode()
        await client.send(b"E" + (len(words) + 4).to_bytes(4, "big") + words)
        raise anyio.EndOfStream
    await server.send(start)


async def introduce(client, server):
    """Pass the server's messages on up to its process id, which is replaced."""
    answering, told = BufferedByteReceiveStream(server), b""
    while not told.startswith(b"K"):
        told = await message(answering, kind=1)
        await client.send(told[:5] + b"\0\0\0\1" + told[9:] if told.startswith(b"K") else told)
    await client.send(answering.buffer)


async def message(stream, *, kind):
    """One message; its length stands after `kind` bytes."""
    head = await stream.receive_exactly(kind + 4)
    return head + await stream.receive_exactly(int.from_bytes(head[kind:], "big") - 4)


async def copy(source, target):
    with suppress(*GONE):
        while True:
            await target.send(await source.receive())
