"""a. From a mint's commit to the start of its handler, or to its request at the provider; 20 mints a second."""

import json
import time

from bench import subjects
from bench.bench import percentiles
from bench.child import Child, until
from bench.scenarios.setting import provided, settled_in, worker
from bench.server import connect

RATE, SLOTS, WARM_UP = 20, 10, 40
POLLED = 100  # at a time: with the ten of the replaced system a second, twenty mints a second only pile up


def run(bench):
    with settled_in(bench, subjects.ALL) as urls, provided() as (provider, base_url):
        for subject in bench.rounds(subjects.ALL):
            case = "at provider" if subject.provider else "no-op"
            subject.clean(urls[subject.name])
            slots = POLLED if subject is subjects.POLLER else SLOTS
            with worker(subject, urls[subject.name], slots, base_url) as process:
                react(bench, subject, urls[subject.name], case, provider if subject.provider else process)


def react(bench, subject, url, case, witness):
    count = 60 if bench.quick else 300
    with Child("bench.producer", url=url, mint=subject.mint) as producer:
        steady(producer, 1, WARM_UP)
        if subject.provider:
            witness.ask("forget")
        with bench.measuring("a. reaction", case, subject.name) as figures:
            commits = dict(steady(producer, 1000, count))
            until(lambda: not _waiting(url, subject), every=0.05)
            time.sleep(0.1)
            starts = witness.starts()
            figures.update(percentiles([starts[number] - commit for number, commit in commits.items()]))


def steady(producer, first, count):
    return json.loads(producer.ask(json.dumps({"how": "steady", "first": first, "count": count, "rate": RATE})))


def _waiting(url, subject):
    with connect(url) as connection:
        return connection.execute(subject.waiting).fetchone()[0]
