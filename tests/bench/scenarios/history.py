"""j. What the history costs: WAL, statements and PostgreSQL's CPU a token, reaction and drain; HISTORY_DAYS 0 and 30.

For the costs the tokens come one by one, as mints do, so that no statement settles many at once.
"""

import json
import statistics
from pathlib import Path

from bench import subjects
from bench.child import Child, until
from bench.machine import cpu_seconds
from bench.scenarios.counting import count_from_now_on, counter
from bench.scenarios.setting import provided, settled_in
from bench.server import connect

SUBJECT, SLOTS, RATE = subjects.REACTOR_SDK, 10, 50
WAL = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8"


def run(bench):
    mints = 500 if bench.quick else 3_000
    with settled_in(bench, [SUBJECT]) as urls, provided("bare") as (provider, base_url):
        url = urls[SUBJECT.name]
        count_from_now_on(url)
        for days in bench.rounds((0, 30)):
            given = {"url": url, "slots": SLOTS, "provider": base_url, "history_days": days}
            with bench.measuring("j. history", f"{days} days", SUBJECT.name) as figures:
                clean(url, provider)
                with Child(SUBJECT.module, **given):
                    figures.update(costs(url, provider, mints))
                clean(url, provider)
                SUBJECT.fill(url, mints)
                with Child(SUBJECT.module, **given), connect(url) as connection:
                    ended = settled(connection)
                    figures["per_second"] = mints / (ended - min(provider.starts().values()))


def clean(url, provider):
    with connect(url) as connection:
        connection.execute("TRUNCATE reactor.attempts")
    SUBJECT.clean(url)
    provider.ask("forget")


def costs(url, provider, mints):
    """Of a token, on average; p50_ms: from its commit to its request at the provider."""
    minting = {"url": url, "mint": SUBJECT.mint}
    with Child("bench.producer", **minting) as producer, counter(url) as calls, connect(url) as connection:
        before = calls(), wal(connection), postgres_cpu(connection)
        commits = json.loads(producer.ask(json.dumps({"how": "steady", "first": 1, "count": mints, "rate": RATE})))
        settled(connection)
        after = calls(), wal(connection), postgres_cpu(connection)
        starts = provider.starts()
    statements, written, cpu = ((there - here) / mints for here, there in zip(before, after, strict=True))
    reaction = 1000 * statistics.median(starts[number] - at for number, at in commits)
    return {"wal_bytes": written, "statements": statements, "postgres_cpu_ms": 1000 * cpu, "p50_ms": reaction}


def settled(connection):
    """Wait until nothing waits any more; return the moment."""
    return until(lambda: not connection.execute(SUBJECT.waiting).fetchone()[0], every=0.02)


def wal(connection):
    """Bytes of WAL that the server has written since it was made."""
    return connection.execute(WAL).fetchone()[0]


def postgres_cpu(connection):
    """Seconds of CPU of all processes of this server."""
    postmaster = _parent(connection.info.backend_pid)
    processes = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return sum(cpu_seconds(pid) for pid in processes if _parent(pid) == postmaster)


def _parent(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended
        return None
