"""Predictions over HTTP: create, get, cancel, list."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from reactor.sandbox import catalog, inputs, wire
from reactor.sandbox.faults import FATES, Faults
from reactor.sandbox.predictions import Prediction, Timing, described
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from reactor.sandbox.books import Books


class Api:
    """`retention`: seconds after a prediction's end until its input and output are removed."""

    def __init__(self, books: Books, timing: Timing, faults: Faults, retention: float) -> None:
        self._books = books
        self._timing = timing
        self._faults = faults
        self._retention = retention

    async def create(self, request: Request) -> Response:
        """Buy a prediction, or refuse the request. `Prefer: wait` is ignored, because the reactor never sends it."""
        given = await wire.json_object(request)
        if given is None:
            return wire.problem(wire.BAD_JSON)
        target = self._target(request, given)
        if isinstance(target, dict):
            return wire.problem(target)
        try:
            lifetime = inputs.lifetime(request.headers.get("cancel-after"))
        except ValueError as error:
            return wire.problem({"detail": f"Cancel-After: {message_of(error)}", "status": 400})
        prediction = await self._buy(request, *target, given["input"], lifetime)
        return wire.answered(described(prediction, wire.base_url(request)), 201)

    def _target(self, request: Request, given: dict[str, Any]) -> tuple[str, str] | dict[str, Any]:
        """The model and the version that the request names, or the body of a refusal."""
        path = request.path_params
        if refused := inputs.refused_body(given, versioned=not path):
            return refused
        if path:
            model = f"{path['owner']}/{path['name']}"
            target = (model, "hidden") if catalog.exists(model) else None
        else:
            target = catalog.model_of(given["version"])
        if target is None:
            return wire.NOT_FOUND if path else wire.BAD_VERSION
        return inputs.refused_input(target[0], given["input"]) or target

    async def _buy(
        self, request: Request, model: str, version: str, given: dict[str, Any], lifetime: float | None
    ) -> Prediction:
        durations = *self._timing.drawn(given), self._retention
        prediction = Prediction(catalog.ALIASES.get(model, model), version, given, *durations)
        for fault in self._faults.strike("create", FATES, prediction.prompt):
            fault.apply(prediction)
        if lifetime is not None:
            prediction.deadline = prediction.requested_at + lifetime
        prediction.size = len(await request.body()) + len(request.scope["path"])
        self._books.enter(prediction)
        return prediction

    async def get(self, request: Request) -> Response:
        prediction = self._books.find(request.path_params["id"])
        if prediction is None:
            return wire.problem(wire.NOT_FOUND)
        return wire.answered(described(prediction, wire.base_url(request)))

    async def cancel(self, request: Request) -> Response:
        """End a prediction, unless it has ended already."""
        if prediction := self._books.find(request.path_params["id"]):
            prediction.cancel()
        return await self.get(request)

    async def list(self, request: Request) -> Response:
        """A page of the predictions, newest first."""
        after = request.query_params.get("created_after", "")
        try:
            since = datetime.fromisoformat(after).timestamp() if after else 0.0
        except (ValueError, OverflowError):
            return wire.problem({"detail": "created_after is no time", "status": 400})
        here, page = wire.base_url(request), self._books.page(request.query_params.get("cursor", ""), since)
        bounded = f"&created_after={quote(after)}" if after else ""
        following = page.following and f"{here}/v1/predictions?cursor={page.following}{bounded}"
        return wire.paged([described(each, here) for each in page.predictions], following=following)
