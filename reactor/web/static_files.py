"""The page's own files, served from memory. Their names have a hash of the content, so that browsers keep them."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse, Response

if TYPE_CHECKING:
    from starlette.requests import Request

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_KEEP = "public, max-age=31536000, immutable"


class StaticFiles:
    """The files of `static/`. `names`: the name that each is served by, by its plain name."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self._served: dict[str, tuple[bytes, str]] = {}
        for file in files("reactor.web").joinpath("static").iterdir():
            stem, dot, ending = file.name.rpartition(".")
            content = file.read_bytes()
            named = f"{stem}.{hashlib.sha256(content).hexdigest()[:12]}.{ending}"
            self.names[file.name] = named
            self._served[named] = content, _TYPES[dot + ending]

    async def serve(self, request: Request) -> Response:
        """A file by its name."""
        if (found := self._served.get(request.path_params["name"])) is None:
            return PlainTextResponse("not found\n", 404)
        content, kind = found
        return Response(content, media_type=kind, headers={"cache-control": _KEEP})
