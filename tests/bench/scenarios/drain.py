"""b. Tokens that wait, and one process that begins to work: from its first start to the last one settled."""

from bench import subjects
from bench.child import until
from bench.scenarios.setting import provided, settled_in, worker
from bench.server import connect

QUEUES = (subjects.FLOOR_NO_OP, subjects.REACTOR, subjects.PGQUEUER, subjects.PROCRASTINATE)
OVER_HTTP = (subjects.FLOOR_HTTPX, subjects.FLOOR_SDK, subjects.REACTOR_SDK)
SLOW = {subjects.PROCRASTINATE.name, *(subject.name for subject in OVER_HTTP)}


def run(bench):
    cases = [(slots, subject) for slots in (10, 100) for subject in QUEUES]
    cases += [(slots, subject) for slots in (10, 100) for subject in OVER_HTTP]
    with settled_in(bench, (*QUEUES, *OVER_HTTP)) as urls, provided("bare") as (provider, base_url):
        for slots, subject in bench.rounds(cases):
            waiting = (2_000 if subject.name in SLOW else 20_000) // (2 if bench.quick else 1)
            url = urls[subject.name]
            subject.clean(url)
            subject.fill(url, waiting)
            provider.ask("forget")
            with bench.measuring("b. drain", f"{slots} slots", subject.name) as figures:
                figures["per_second"] = waiting / drained(subject, url, slots, base_url, provider)


def drained(subject, url, slots, base_url, provider):
    """Seconds from the first start to the end."""
    with worker(subject, url, slots, base_url) as process, connect(url) as connection:
        ended = until(lambda: not connection.execute(subject.waiting).fetchone()[0], every=0.01)
        starts = (provider if subject.provider else process).starts()
        return ended - min(starts.values())
