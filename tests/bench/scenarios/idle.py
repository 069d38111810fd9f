"""g. Nothing to do: what that costs. All at the same time, each on a database of its own."""

import time
from contextlib import ExitStack

from bench import subjects
from bench.machine import cpu_seconds, resident_megabytes
from bench.scenarios.counting import count_from_now_on, counter
from bench.scenarios.setting import provided, settled_in, worker
from bench.server import connect

QUIET = (subjects.REACTOR_SDK, subjects.PGQUEUER, subjects.PROCRASTINATE, subjects.POLLER)
SLOTS, SETTLE_DOWN = 10, 5.0  # seconds


def run(bench):
    with settled_in(bench, QUIET) as urls, provided() as (_provider, base_url):
        for url in urls.values():
            count_from_now_on(url)
        for _ in range(bench.repetitions):
            with ExitStack() as stack:
                running = [
                    (
                        subject,
                        stack.enter_context(worker(subject, urls[subject.name], SLOTS, base_url)),
                        stack.enter_context(counter(urls[subject.name])),
                        urls[subject.name],
                    )
                    for subject in QUIET
                ]
                time.sleep(SETTLE_DOWN)
                watch(bench, running)


def watch(bench, running):
    seconds = 15 if bench.quick else 60
    before = {subject.name: (calls(), cpu_seconds(process.pid)) for subject, process, calls, _url in running}
    time.sleep(seconds)
    for subject, process, calls, url in running:
        asked, cpu = before[subject.name]
        with bench.measuring("g. idle", f"{seconds} s", subject.name) as figures:
            figures["statements_per_minute"] = 60 * (calls() - asked) / seconds
            figures["cpu_percent"] = 100 * (cpu_seconds(process.pid) - cpu) / seconds
            figures["connections"] = connections(url)
            figures["megabytes"] = resident_megabytes(process.pid)


def connections(url):
    """Of the worker: all but the bench's two, this one and the counter's."""
    with connect(url) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND backend_type = 'client backend'"
        )
        return found.fetchone()[0] - 2
