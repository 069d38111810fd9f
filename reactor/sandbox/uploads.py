"""Files that are uploaded to be a model's input. Kept in memory; only what they are, not what is in them."""

from __future__ import annotations

import hashlib
import secrets
import time
from email.parser import BytesParser
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from reactor.messages import message_of
from reactor.sandbox import answers
from reactor.sandbox.asking import base_url
from reactor.sandbox.bodies import stamp
from reactor.sandbox.bounds import LARGEST_HEAD, LONGEST_NAME, OTHERS, keep_newest

if TYPE_CHECKING:
    from email.message import Message

    from starlette.requests import Request

    from reactor.sandbox.guard import Handler

MOST_PARTS = 20  # of a form
_KEPT = 24 * 3600.0  # seconds


class Uploads:
    """Those that are there."""

    def __init__(self) -> None:
        self._files: dict[str, dict[str, Any]] = {}

    async def create(self, request: Request) -> Response:
        """Take the part named `content` of a multipart form."""
        try:
            found = _part_named_content(request.headers.get("content-type", "").encode(), await request.body())
        except ValueError as error:
            return answers.problem({"detail": message_of(error), "status": 400})
        if found is None:
            return answers.problem({"detail": "Missing content", "status": 400})
        head, content = found
        file = _described(content) | {
            "name": (head.get_filename() or "file")[:LONGEST_NAME],
            "content_type": head.get_content_type()[:LONGEST_NAME],
        }
        self._files[file["id"]] = file
        keep_newest(self._files, OTHERS)
        return answers.answered(_shown(file, request), 201)

    async def every(self, request: Request) -> Response:
        """All of them."""
        return answers.paged([_shown(file, request) for file in self._files.values()])

    async def get(self, request: Request) -> Response:
        """What one is."""
        found = self._files.get(request.path_params["id"])
        return answers.answered(_shown(found, request)) if found else answers.problem(answers.NOT_FOUND)

    async def delete(self, request: Request) -> Response:
        """Remove one."""
        found = self._files.pop(request.path_params["id"], None)
        return Response(status_code=204) if found else answers.problem(answers.NOT_FOUND)

    def routes(self) -> list[tuple[str, str, Handler]]:
        """Method, path below /v1, handler."""
        return [
            ("POST", "/files", self.create),
            ("GET", "/files", self.every),
            ("GET", "/files/{id}", self.get),
            ("DELETE", "/files/{id}", self.delete),
        ]


def _part_named_content(form_type: bytes, body: bytes) -> tuple[Message, bytes] | None:
    """The head of that part of a form, and what is in it. Raises ValueError: a head is too long."""
    boundary = _head(b"Content-Type: " + form_type).get_boundary()
    if not boundary:
        return None
    delimiter = b"\r\n--" + boundary.encode("latin-1", "replace")
    for part in (b"\r\n" + body).split(delimiter, MOST_PARTS + 1)[1 : MOST_PARTS + 1]:
        lines, _, content = part.partition(b"\r\n\r\n")
        head = _head(lines.strip())
        if head.get_param("name", header="content-disposition") == "content":
            return head, content
    return None


def _head(lines: bytes) -> Message:
    if len(lines) > LARGEST_HEAD:
        raise ValueError(f"a head of more than {LARGEST_HEAD} bytes")
    return BytesParser().parsebytes(lines, headersonly=True)


def _shown(file: dict[str, Any], request: Request) -> dict[str, Any]:
    return file | {"urls": {"get": f"{base_url(request)}/v1/files/{file['id']}"}}


def _described(content: bytes) -> dict[str, Any]:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return {
        "id": secrets.token_urlsafe(24),
        "size": len(content),
        "etag": md5,
        "checksums": {"sha256": hashlib.sha256(content).hexdigest(), "md5": md5},
        "metadata": {},
        "created_at": stamp(time.time(), 3),
        "expires_at": stamp(time.time() + _KEPT, 3),
    }
