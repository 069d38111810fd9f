"""c. A thousand mints in one statement: from its commit to the last start, and to the last one settled."""

import json

from bench import subjects
from bench.child import Child, until
from bench.scenarios.setting import settled_in, worker
from bench.server import connect

QUEUES = (subjects.FLOOR_NO_OP, subjects.REACTOR, subjects.PGQUEUER, subjects.PROCRASTINATE)
MINTS, SLOTS = 1_000, 100


def run(bench):
    with settled_in(bench, QUEUES) as urls:
        for subject in bench.rounds(QUEUES):
            url = urls[subject.name]
            subject.clean(url)
            with (
                worker(subject, url, SLOTS) as process,
                Child("bench.producer", url=url, mint=subject.mint) as producer,
                connect(url) as connection,
            ):
                once(subject, process, producer, connection, 1)  # warm-up
                with bench.measuring("c. burst", "100 slots", subject.name) as figures:
                    figures.update(once(subject, process, producer, connection, 1 + MINTS))


def once(subject, process, producer, connection, first):
    process.ask(f"expect {MINTS}")
    committed = float(producer.ask(json.dumps({"how": "burst", "first": first, "count": MINTS})))
    if process.heard() != "reached":
        raise RuntimeError(f"{subject.name} did not start all")
    settled = until(lambda: not connection.execute(subject.waiting).fetchone()[0])
    started = max(process.starts().values())
    return {"last_start_ms": 1000 * (started - committed), "settled_ms": 1000 * (settled - committed)}
