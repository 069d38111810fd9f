"""A prediction as the API's JSON. What is not known yet is absent, as it is in the real API's answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from reactor.sandbox import catalog
from reactor.sandbox.predictions import TERMINAL

if TYPE_CHECKING:
    from reactor.sandbox.predictions import Prediction


def described(prediction: Prediction, base_url: str, retention: float) -> dict[str, Any]:
    """The body of GET. `base_url` is without /v1; `retention` is in seconds."""
    status, mine = prediction.status, f"{base_url}/v1/predictions/{prediction.id}"
    removed = prediction.data_removed(retention)
    body: dict[str, Any] = {
        "id": prediction.id,
        "model": prediction.model,
        "version": prediction.version,
        "input": {} if removed else prediction.input,
        "logs": "",
        "data_removed": removed,
        "error": None,
        "source": prediction.source,
        "status": status,
        "created_at": _stamp(prediction.requested_at, 3),
        "urls": {
            "get": mine,
            "cancel": f"{mine}/cancel",
            "web": f"{base_url}/#{prediction.id}",
            "stream": f"{base_url}/stream/{prediction.id}",  # as in the real answers; the sandbox streams nothing
        },
    }
    if prediction.deadline is not None:
        body["deadline"] = _stamp(prediction.deadline, 3)
    if status == "starting":
        return body
    body["output"] = None
    never_started = prediction.finished_at < prediction.started_at or status == "aborted"
    body["started_at"] = None if never_started else _stamp(prediction.started_at, 9)
    if status in TERMINAL:
        _describe_end(body, prediction, base_url)
    return body


def early(body: dict[str, Any], prediction: Prediction) -> dict[str, Any]:
    """The body with which `Prefer: wait` answers: all files are there, though the status is still `processing`."""
    told = {name: value for name, value in body.items() if name not in {"metrics", "started_at", "completed_at"}}
    output = catalog.RECORDED_OUTPUTS.get(prediction.version or "")
    return {**told, "status": "processing", "logs": "", "output": [output] if output else body["output"]}


def _describe_end(body: dict[str, Any], prediction: Prediction, base_url: str) -> None:
    ended_at, status = prediction.finished_at, body["status"]
    body["completed_at"] = _stamp(ended_at, 6)
    body["metrics"] = {
        "predict_time": round(max(0.0, ended_at - prediction.started_at), 6),
        "total_time": round(ended_at - prediction.requested_at, 6),
    }
    if status == "succeeded" and not body["data_removed"]:
        body["output"] = output = _output(prediction, base_url)
        body["metrics"]["image_count"] = count = len(output) if isinstance(output, list) else 1
        body["logs"] = (
            f"Using seed: {prediction.used_seed}\n  0%|          | 0/4 [00:00<?, ?it/s]\n"
            "100%|##########| 4/4 [00:00<00:00, 13.43it/s]\n"
            f"Total safe images: {count} out of {len(prediction.pictures())}\n"
        )
    elif status == "failed":
        body["error"] = prediction.error
    elif status == "canceled":
        body["logs"] = None


def _output(prediction: Prediction, base_url: str) -> Any:
    if prediction.model in catalog.TEXT_MODELS:
        return catalog.words(prediction.prompt)
    return prediction.output([f"{base_url}/files/{prediction.id}/{name}" for name in prediction.pictures()])


def _stamp(moment: float, digits: int) -> str:
    """A moment in UTC. The real API writes 3, 6 or 9 decimals."""
    fraction = f"{moment % 1:.9f}"[2 : 2 + digits]
    return f"{datetime.fromtimestamp(int(moment), UTC):%Y-%m-%dT%H:%M:%S}.{fraction}Z"
