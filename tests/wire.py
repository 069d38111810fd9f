"""A server of bytes: it sends the answers of a test, and records the requests and the number of connections."""

import contextlib
import json
import re
import ssl
from contextlib import asynccontextmanager

import anyio
import pytest
import trustme
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSStream

SILENCE, HANG_UP = object(), object()


@pytest.fixture(autouse=True)
def quick_tls(monkeypatch, tmp_path_factory):
    """Let providers trust one authority, because reading all the usual ones takes longer than most tests."""
    file = tmp_path_factory.getbasetemp() / "authority.pem"
    if not file.exists():
        trustme.CA().cert_pem.write_to_path(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))


def http(body, status=200, **headers):
    """The bytes of an HTTP answer; a `body` that is not bytes becomes JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {"content-length": len(content), **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode() + content


def drip(answer, seconds=0.02):
    """The answer in small pieces, so that no timeout between two bytes passes."""
    return [(seconds, answer[place : place + 1]) for place in range(len(answer))]


class Wire:
    """Gives each request the next answer; `requests` holds the requests' heads and bodies."""

    def __init__(self, *answers, tls=None):
        self._tls = tls
        self.answers = list(answers)
        self.requests = []
        self.connections = 0

    @asynccontextmanager
    async def serve(self):
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610  (not Django's)
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, self._talk)
            yield f"http{'s' if self._tls else ''}://127.0.0.1:{port}"
            group.cancel_scope.cancel()

    async def _talk(self, stream):
        self.connections += 1
        gone = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
        async with stream:
            with contextlib.suppress(*gone, ssl.SSLError):
                if self._tls:
                    stream = await TLSStream.wrap(stream, ssl_context=self._tls, server_side=True)
                while True:
                    self.requests.append(await self._request(stream))
                    await self._answer(stream)

    async def _request(self, stream):
        came = b""
        while b"\r\n\r\n" not in came:
            came += await stream.receive()
            if came.startswith(b"\x16\x03"):
                raise anyio.EndOfStream  # a TLS handshake on a plain connection
        head, _, body = came.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        while length and len(body) < int(length[1]):
            body += await stream.receive()
        return head.decode(), body

    async def _answer(self, stream):
        answer = self.answers.pop(0)
        for seconds, part in answer if isinstance(answer, list) else [(0, answer)]:
            await anyio.sleep(seconds)
            if part is SILENCE:
                await anyio.sleep_forever()
            if part is HANG_UP:
                raise anyio.EndOfStream
            await (part(stream) if callable(part) else stream.send(part))
