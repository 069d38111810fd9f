"""A page of the latest pictures, and the pictures. A picture is painted when a client asks for it."""

from __future__ import annotations

from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from reactor.sandbox import wire
from reactor.sandbox.inputs import RATIOS

if TYPE_CHECKING:
    from starlette.requests import Request

    from reactor.sandbox.books import Books
    from reactor.sandbox.predictions import Prediction

KEPT = 64  # painted pictures that are kept in memory
SHOWN = 48  # on the page
_FORMATS = {"webp": ("WEBP", "image/webp"), "jpg": ("JPEG", "image/jpeg"), "png": ("PNG", "image/png")}
_CSP = "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'"
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<title>Sandbox</title><meta name="viewport" content="width=device-width">
<style>
 body {{ margin: 0; padding: 2.5rem; background: #14151a; color: #e8e6e1; font: 15px/1.5 system-ui, sans-serif }}
 h1 {{ font-weight: 500; font-size: 1.25rem; margin: 0 }} p {{ color: #8d8f98; margin: .25rem 0 2rem }}
 main {{ display: grid; gap: 1.5rem 1.25rem; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)) }}
 figure {{ margin: 0 }} img, .none {{ width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 10px }}
 img {{ display: block; background: #1e2027 }}
 .none {{ background: #1e2027; color: #7d808b; display: grid; place-items: center }}
 figcaption {{ color: #a5a7b0; font-size: .8rem; line-height: 1.4; margin-top: .5rem; overflow-wrap: anywhere }}
</style><h1>Replicate sandbox</h1><p>{bought} bought, the latest first</p><main>{figures}</main></html>"""


class Gallery:
    def __init__(self, books: Books) -> None:
        self._books = books
        self._render = lru_cache(KEPT)(_render)
        self._easel = anyio.Lock()  # one picture at a time, because the API shares the processor

    async def page(self, _request: Request) -> Response:
        ledger = self._books.ledger
        figures = "".join(self._figure(prediction) for prediction in reversed(ledger[-SHOWN:]))
        html = _PAGE.format(bought=len(ledger), figures=figures or "Nothing yet.")
        return HTMLResponse(html, headers={"content-security-policy": _CSP, "cache-control": "no-store"})

    def _figure(self, prediction: Prediction) -> str:
        prompt = prediction.prompt if len(prediction.prompt) <= 90 else f"{prediction.prompt[:89]}…"
        caption = f"<figcaption>{escape(prompt)}</figcaption></figure>"
        if prediction.status != "succeeded" or prediction.data_removed:
            word = "removed" if prediction.status == "succeeded" else prediction.status
            return f'<figure id="{prediction.id}"><div class="none">{word}</div>{caption}'
        source = f"files/{prediction.id}/{prediction.pictures()[0]}"
        return f'<figure id="{prediction.id}"><img loading="lazy" alt="" src="{source}">{caption}'

    async def picture(self, request: Request) -> Response:
        """A picture, in the format that the ending of its name says."""
        prediction, name = self._books.find(request.path_params["id"]), request.path_params["name"]
        if prediction is None or name not in prediction.pictures() or prediction.data_removed:
            return wire.problem(wire.NOT_FOUND)
        place, _, ending = name.removeprefix("out-").partition(".")
        kind, media_type = _FORMATS[ending]
        seed = prediction.used_seed + int(place)
        try:
            async with self._easel:
                picture = await to_thread.run_sync(self._render, prediction.prompt, seed, _size(prediction), kind)
        except ImportError:
            return PlainTextResponse("pictures need Pillow: pip install pillow\n", 501)
        return Response(picture, media_type=media_type, headers={"cache-control": "max-age=3600"})


def _render(prompt: str, seed: int, size: tuple[int, int], kind: str) -> bytes:
    from reactor.sandbox.pictures import render  # noqa: PLC0415  (Pillow is in the demo extra)

    return render(prompt, seed, size, kind)


def _size(prediction: Prediction) -> tuple[int, int]:
    width, height = RATIOS.get(str(prediction.input.get("aspect_ratio")), RATIOS["1:1"])
    return (width // 2, height // 2) if prediction.input.get("megapixels") == "0.25" else (width, height)
