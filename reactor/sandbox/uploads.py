"""Files that are uploaded to be a model's input. Kept in memory; only what they are, not what is in them."""

from __future__ import annotations

import hashlib
import secrets
import time
from email.parser import BytesParser
from email.policy import HTTP
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from reactor.sandbox import answers
from reactor.sandbox.asking import base_url
from reactor.sandbox.bodies import stamp
from reactor.sandbox.bounds import OTHERS, keep_newest

if TYPE_CHECKING:
    from starlette.requests import Request

    from reactor.sandbox.guard import Handler

_KEPT = 24 * 3600.0  # seconds


class Uploads:
    """Those that are there."""

    def __init__(self) -> None:
        self._files: dict[str, dict[str, Any]] = {}

    async def create(self, request: Request) -> Response:
        """Take the part named `content` of a multipart form."""
        head = f"Content-Type: {request.headers.get('content-type', '')}\r\n\r\n".encode()
        form = BytesParser(policy=HTTP).parsebytes(head + await request.body())
        parts = {part.get_param("name", header="content-disposition"): part for part in form.iter_parts()}
        if "content" not in parts:
            return answers.problem({"detail": "Missing content", "status": 400})
        part = parts["content"]
        content = part.get_payload(decode=True)
        file = _described(content if isinstance(content, bytes) else b"")
        file |= {"name": part.get_filename() or "file", "content_type": part.get_content_type()}
        file["urls"] = {"get": f"{base_url(request)}/v1/files/{file['id']}"}
        self._files[file["id"]] = file
        keep_newest(self._files, OTHERS)
        return answers.answered(file, 201)

    async def every(self, _request: Request) -> Response:
        """All of them."""
        return answers.paged(list(self._files.values()))

    async def get(self, request: Request) -> Response:
        """What one is."""
        found = self._files.get(request.path_params["id"])
        return answers.answered(found) if found else answers.problem(answers.NOT_FOUND)

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
