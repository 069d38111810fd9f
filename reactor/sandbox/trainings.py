"""Trainings: they start, and go on until they are canceled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reactor.sandbox import answers, bodies, catalog
from reactor.sandbox.asking import base_url, json_object
from reactor.sandbox.bounds import LONGEST_NAME, OTHERS, keep_newest
from reactor.sandbox.predictions import Prediction, Timing

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from reactor.sandbox.guard import Handler

_FOREVER = float("inf")


class Trainings:
    """Those that were made, and one that is always there."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        example = Prediction(catalog.SDXL, catalog.EXAMPLE_VERSION, {}, 0.0, _FOREVER, catalog.EXAMPLE_TRAINING)
        self._by_id = {example.id: example}

    async def create(self, request: Request) -> Response:
        """Start one."""
        given, path = await json_object(request) or {}, request.path_params
        if not catalog.exists(str(given.get("destination"))):
            return answers.problem(answers.NO_SUCH_DESTINATION)
        training = Prediction(
            f"{path['owner']}/{path['name']}"[:LONGEST_NAME],
            path["version"][:LONGEST_NAME],
            {},  # nobody asks for its input, and it may be large
            self._timing.queue[1],
            _FOREVER,
        )
        self._by_id[training.id] = training
        keep_newest(self._by_id, OTHERS)
        return answers.answered(self._described(training, request), 201)

    async def get(self, request: Request) -> Response:
        """Look at one."""
        training = self._by_id.get(request.path_params["id"])
        return answers.answered(self._described(training, request)) if training else answers.problem(answers.NOT_FOUND)

    async def cancel(self, request: Request) -> Response:
        """End one."""
        if training := self._by_id.get(request.path_params["id"]):
            training.cancel()
        return await self.get(request)

    async def every(self, request: Request) -> Response:
        """All of them, newest first."""
        return answers.paged([self._described(training, request) for training in reversed(self._by_id.values())])

    def routes(self) -> list[tuple[str, str, Handler]]:
        """Method, path below /v1, handler."""
        return [
            ("POST", "/models/{owner}/{name}/versions/{version}/trainings", self.create),
            ("GET", "/trainings", self.every),
            ("GET", "/trainings/{id}", self.get),
            ("POST", "/trainings/{id}/cancel", self.cancel),
        ]

    def _described(self, training: Prediction, request: Request) -> dict[str, object]:
        return bodies.described(training, base_url(request), _FOREVER, among="trainings")
