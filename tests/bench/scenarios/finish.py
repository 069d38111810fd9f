"""i. From the end of a prediction of one second to `uploading` in its row; ten in flight."""

import json
import time

from tests.bench import subjects
from tests.bench.bench import percentiles
from tests.bench.child import Child
from tests.bench.scenarios.setting import provided, settled_in, worker
from tests.bench.server import connect

SLOTS, RUN = 10, 1.0  # seconds
WARM_UP, MINTS = 20, 60
NUMBERS = "SELECT token_id, prompt_text::integer FROM tokens_s0 JOIN authors ON authors.id = author_id"


def run(bench):
    subject = subjects.REACTOR_SDK
    with settled_in(bench, [subject]) as urls, provided(run=RUN) as (provider, base_url):
        url = urls[subject.name]
        for _ in range(bench.repetitions):
            subject.clean(url)
            with (
                worker(subject, url, SLOTS, base_url),
                Child("tests.bench.producer", url=url, mint=subject.mint) as producer,
                connect(url) as ear,
            ):
                ear.execute("LISTEN public_tokens_s0_status")
                uploaded(ear, producer, 1, WARM_UP)
                provider.ask("forget")
                with bench.measuring("i. finish", "1 s, 10 slots", subject.name) as figures:
                    told = uploaded(ear, producer, 1_000, MINTS)
                    numbers = dict(ear.execute(NUMBERS).fetchall())
                    starts = provider.starts()
                    figures.update(percentiles([at - starts[numbers[token]] - RUN for token, at in told.items()]))


def uploaded(ear, producer, first, count):
    """Mint in one statement; the moment at which each token was told to be uploading."""
    producer.ask(json.dumps({"how": "burst", "first": first, "count": count}))
    told = {}
    for notification in ear.notifies(timeout=60):
        at = time.monotonic()
        told |= dict.fromkeys(json.loads(notification.payload)["token_ids"], at)
        if len(told) == count:
            return told
    raise TimeoutError
