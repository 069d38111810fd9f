"""i. From the end of a prediction of one second to `uploading` in its row; ten in flight; also after a cold start."""

import json
import time

import httpx

from bench import subjects
from bench.bench import percentiles
from bench.child import Child
from bench.scenarios.setting import provided, settled_in, worker
from bench.server import connect

SLOTS, RUN = 10, 1.0  # seconds
COLD = 20.0  # seconds that each of the first predictions takes while the model boots
WARM_UP, MINTS = 20, 60
CASES = {"1 s, 10 slots": (WARM_UP, 0), "after a boot": (SLOTS, SLOTS)}  # mints before, of them so many cold
NUMBERS = "SELECT token_id, prompt_text::integer FROM tokens_s0 JOIN authors ON authors.id = author_id"


def run(bench):
    subject = subjects.REACTOR_SDK
    with settled_in(bench, [subject]) as urls, provided(run=RUN) as (provider, base_url):
        for _ in range(bench.repetitions):
            for case in CASES:
                subject.clean(urls[subject.name])
                measure(bench, case, subject, urls[subject.name], provider, base_url)


def measure(bench, case, subject, url, provider, base_url):
    before, cold = CASES[case]
    if cold:
        booting = {"kind": "run", "seconds": COLD, "times": cold}
        httpx.post(f"{base_url}/sandbox/faults", json=booting).raise_for_status()
    with (
        worker(subject, url, SLOTS, base_url),
        Child("bench.producer", url=url, mint=subject.mint) as producer,
        connect(url) as ear,
    ):
        ear.execute("LISTEN public_tokens_s0_status")
        uploaded(ear, producer, 1, before)
        provider.ask("forget")
        looked = looks(base_url)
        with bench.measuring("i. finish", case, subject.name) as figures:
            told = uploaded(ear, producer, 1_000, MINTS)
            numbers = dict(ear.execute(NUMBERS).fetchall())
            starts = provider.starts()
            figures.update(percentiles([at - starts[numbers[token]] - RUN for token, at in told.items()]))
            figures["looks"] = (looks(base_url) - looked) / MINTS


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


def looks(base_url):
    """How often the provider was asked what a prediction does."""
    asked = httpx.get(f"{base_url}/sandbox/requests").json()
    return sum(request["method"] == "GET" for request in asked)
