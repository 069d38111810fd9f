"""The reactor as `run` starts it, with log and metrics; its provider does nothing, or uses the SDK."""

import json
import os
import sys
from datetime import UTC, datetime

import anyio

from bench.marks import Marks
from reactor.cli.run import collect_rarely
from reactor.database.session import Session
from reactor.engine.health import Health
from reactor.engine.worker import Worker
from reactor.logs import StructuredLog
from reactor.providers import Prediction
from reactor.providers.replicate import ReplicateProvider
from reactor.settings import Settings
from reactor.telemetry import Telemetry
from reactor.text.redaction import Redactor
from reactor.web.metrics import Metrics

IMAGE = "https://replicate.delivery/image.webp"


class NoOp:
    """A provider that returns an image at once."""

    seedable, finds_since = True, datetime.min.replace(tzinfo=UTC)

    def __init__(self, marks):
        self._marks = marks

    def hiding(self, *_prompts):
        return self

    async def create(self, prompt, seed):
        self._marks.start(int(prompt))
        return Prediction("bench", IMAGE)

    async def wait(self, prediction, seen):
        return prediction

    async def find(self, seed, since):
        return None

    async def cancel(self, prediction):
        return prediction

    async def check(self):
        pass

    async def keep_warm(self):
        pass

    async def aclose(self):
        pass


class Told:
    """A sink that reports when mints wake the worker."""

    def __init__(self, marks):
        self._marks = marks

    def __call__(self, event, fields):
        if event == "listener.connected":
            self._marks.ready()


async def main(*, url, slots, provider=None, authority=None, history_days=30):
    marks = Marks()
    if authority:
        os.environ["SSL_CERT_FILE"] = authority
    settings = Settings.load(
        _env_file=None,
        database_url=url,
        replicate_api_token="r8_bench",
        replicate_base_url=provider,
        fallback_censored_prompt="a calm sea",
        worker_batch_size=slots,
        rate_limit_per_minute=0,
        history_days=history_days,
        http_port=0,
    )
    redact = Redactor(settings.secrets())
    sinks = (
        StructuredLog(redact, level="INFO", style="json"),
        Metrics(),
        Health(Session(url, name="reactor health"), "tokens_s0", slots=slots),
        Told(marks),
    )
    collect_rarely()
    made = ReplicateProvider("r8_bench", base_url=provider) if provider else NoOp(marks)
    await Worker(settings, made, Telemetry(*sinks), redact).run()


if __name__ == "__main__":
    anyio.run(lambda: main(**json.loads(sys.argv[1])), backend_options={"use_uvloop": True})
