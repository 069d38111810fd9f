"""d. Sixteen connections that mint as fast as they can: what ringing takes from them."""

import json
from contextlib import nullcontext

from bench import subjects
from bench.child import Child
from bench.scenarios.setting import settled_in, worker
from bench.server import connect

CONNECTIONS, SLOTS, BACKLOG = 16, 10, 20_000
PLAIN = """
    CREATE FUNCTION plain_rings() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN PERFORM pg_notify('public_tokens_s0_wake', ''); RETURN NULL; END $$;
    CREATE TRIGGER plain_rings AFTER INSERT ON tokens_s0 FOR EACH ROW EXECUTE FUNCTION plain_rings();
    ALTER TABLE tokens_s0 DISABLE TRIGGER plain_rings;
"""
# Which of the table's triggers ring; the foreign key is checked in every case.
TRIGGERS = {
    "no trigger": (),
    "reactor": ("reactor_notify_inserted", "reactor_notify_updated"),
    "plain": ("plain_rings",),
}


def run(bench):
    ours, peer = subjects.REACTOR, subjects.PGQUEUER
    cases = [(name, busy) for busy in (False, True) for name in (*TRIGGERS, peer.name)]
    with settled_in(bench, (ours, peer)) as urls:
        with connect(urls[ours.name]) as connection:
            connection.execute(PLAIN)
        for name, busy in bench.rounds(cases):
            subject = peer if name == peer.name else ours
            url = urls[subject.name]
            subject.clean(url)
            if busy:
                subject.fill(url, BACKLOG)
            if subject is ours:
                ring(url, TRIGGERS[name])
            working = worker(subject, url, SLOTS) if busy else nullcontext()
            with working, Child("bench.producer", url=url, mint=subject.mint, connections=CONNECTIONS) as minting:
                flood(minting, 0.5)  # warm-up
                with bench.measuring("d. producer", "worker busy" if busy else "no worker", name) as figures:
                    figures["commits_per_second"] = flood(minting, 2 if bench.quick else 4)


def flood(producer, seconds):
    return float(producer.ask(json.dumps({"how": "flood", "first": 1, "seconds": seconds})))


def ring(url, triggers):
    with connect(url) as connection:
        connection.execute("ALTER TABLE tokens_s0 DISABLE TRIGGER USER")
        for trigger in triggers:
            connection.execute(f"ALTER TABLE tokens_s0 ENABLE TRIGGER {trigger}")
