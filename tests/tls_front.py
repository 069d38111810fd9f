"""TLS before a PostgreSQL that has none: it ends the client's TLS, and passes the rest on to the real server."""

import ssl
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import anyio
from anyio.streams.tls import TLSStream
from pooler import GONE, copy, in_front

REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")


@asynccontextmanager
async def tls_front(url, certificate, *, client_authority=None, direct=False):
    """The URL of a server that speaks TLS alone. `direct`: without being asked first."""
    parts, context = urlsplit(url), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    context.set_alpn_protocols(["postgresql"])
    if client_authority is not None:
        client_authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED

    async def talk(client):
        with suppress(*GONE, ssl.SSLError):
            async with client, await anyio.connect_tcp(parts.hostname, parts.port) as server:
                if not direct:
                    if await client.receive(8) != REQUEST:
                        return
                    await client.send(b"S")
                safe = await TLSStream.wrap(client, server_side=True, ssl_context=context, standard_compatible=False)
                async with anyio.create_task_group() as group:
                    group.start_soon(copy, safe, server)
                    await copy(server, safe)
                    group.cancel_scope.cancel()

    async with in_front(parts, talk, "localhost") as front:
        yield front
