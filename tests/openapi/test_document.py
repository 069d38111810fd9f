"""The API against its OpenAPI document: schemathesis makes requests up, and checks each answer. See `make test-api`.

The server is a process of `reactor run`, because schemathesis waits for an answer without an event loop: a server in
the test's own loop would never send one. The requests are the same in each run.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict

import ports
import pytest
import requests
import schemathesis
from conftest import command
from databases import clone, on
from schemathesis.checks import CHECKS
from schemathesis.config import SchemathesisConfig
from served import READ_TOKEN, TOKEN

from reactor.text.durations import seconds_of
from reactor.web.openapi import document

pytestmark = pytest.mark.timeout(60)

WITHIN = 10.0  # seconds for one request: the API gives up a read after 6 s
SEED = 1
STATES = """
WITH author AS (
    INSERT INTO authors (wallet_address, prompt_text) VALUES ('0x1', 'a lighthouse') RETURNING id
), given (token_id, status, image_url, generation_error, mint_timestamp, due, lease, worker) AS (
    VALUES
        (1, 'failed', NULL, 'boom 1', now(), NULL::timestamptz, NULL::timestamptz, NULL::bigint),
        (2, 'failed', NULL, 'boom 2', now() - interval '2 days', NULL, NULL, NULL),
        (3, 'failed', NULL, E'\\u202e<script>\\x1b[2J', '-infinity', NULL, NULL, NULL),
        (4, 'detected', NULL, NULL, now(), NULL, NULL, NULL),
        (5, 'detected', NULL, 'to be tried again', now(), 'infinity', NULL, NULL),
        (6, 'generating', NULL, NULL, now(), NULL, 'infinity', -5),
        (7, 'uploading', 'https://replicate.delivery/x.png', NULL, now(), NULL, NULL, NULL),
        (8, 'ready', 'https://replicate.delivery/x.png', NULL, 'infinity', NULL, NULL, NULL),
        (9, 'revealed', 'javascript:alert(1)', NULL, now(), NULL, NULL, NULL),
        (9007199254740993, 'failed', NULL, 'boom 3', now(), NULL, NULL, NULL),
        (-1, 'failed', NULL, '', now(), NULL, NULL, NULL)
)
INSERT INTO tokens_s0 (
    author_id, token_id, status, image_url, generation_error, mint_timestamp, generation_due_at,
    generation_lease_ends_at, generation_worker
)
SELECT author.id, given.* FROM author, given
"""
HISTORY = """
INSERT INTO reactor.attempts (
    tokens_table, key, token_id, epoch, worker, attempt, bought_at, outcome, error, seed, prediction_id, images, cost
)
SELECT
    'public.tokens_s0', id, token_id, 9007199254740993, -5, 1, ended.bought_at, ended.outcome, 'boom', 7, 'p1', 1, 0.003
FROM tokens_s0, (
    VALUES ('succeeded', now()), ('retry', NULL), ('failed', now()), ('released', NULL), ('rejected', now()),
        ('rescued', NULL), ('lost', now()), ('expired', NULL)
) AS ended (outcome, bought_at)
WHERE token_id = 1
"""


def loaded(at_most, *, refused, phases=("examples", "coverage", "fuzzing")):
    """The document, with `at_most` made-up requests for each operation beside those at its limits.

    `refused`: the statuses that answer a request which the document does not allow.
    """
    off = {name: {"enabled": False} for name in ("examples", "coverage", "fuzzing", "stateful") if name not in phases}
    generation = {"deterministic": True, "database": "none", "max-examples": at_most, "with-security-parameters": False}
    checks = {"negative_data_rejection": {"expected-statuses": refused}}
    shown = {"sanitization": {"enabled": False}}  # the tokens are made up
    config = {"seed": SEED, "generation": generation, "checks": checks, "phases": off, "output": shown}
    return schemathesis.openapi.from_dict(document(""), config=SchemathesisConfig.from_dict(config)).exclude(streams)


def streams(context):
    """Whether an operation may answer with something that does not end by itself, as /events does."""
    answers = context.operation.definition.raw["responses"].values()
    return any(set(each["content"]) != {"application/json"} for each in answers)


BAD = ["400", "404", "405", "413", "415"]
ACTS, READS = loaded(25, refused=BAD), loaded(15, refused=BAD)
REFUSED = loaded(10, refused=["401", "403"], phases=("fuzzing",))


@pytest.fixture(scope="module")
def number():
    with ports.kept() as kept:
        yield kept


@pytest.fixture(scope="module")
def port(server_url, template, tmp_path_factory, number):
    """The URL of a port whose database has tokens in every state, and a worker that reaches no provider."""
    name = asyncio.run(clone(server_url, template))
    command(on(server_url, name), STATES, HISTORY)
    log = tmp_path_factory.mktemp("port") / "log"  # a file, because a pipe that nobody reads fills
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "DATABASE_URL": on(server_url, name),
        "REPLICATE_API_TOKEN": "r8_a_secret_that_must_not_be_told",
        "REPLICATE_BASE_URL": "http://127.0.0.1:1",
        "FALLBACK_CENSORED_PROMPT": "a calm sea",
        "HTTP_PORT": str(number),
        "HTTP_TOKEN": TOKEN,
        "HTTP_READ_TOKEN": READ_TOKEN,
    }
    with log.open("wb") as out:
        program = [sys.executable, "-m", "reactor", "run"]
        process = subprocess.Popen(program, env=environment, cwd="/", stdout=out, stderr=subprocess.STDOUT)
        try:
            yield ready(f"http://127.0.0.1:{number}")
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(30)
            command(server_url, f"DROP DATABASE {name} WITH (FORCE)")
    said = log.read_text()
    assert code == 0
    assert "worker.error" not in said
    assert "Traceback" not in said


def ready(url):
    """The URL, once the port answers and reaches its database."""
    until = time.monotonic() + 30
    while True:
        try:
            if requests.get(f"{url}/readyz", timeout=WITHIN).status_code == 200:
                return url
        except requests.ConnectionError:
            assert time.monotonic() < until, "the port did not open"
        time.sleep(0.05)  # only asking tells


@pytest.fixture(scope="module")
def client():
    """A client that uses no proxy, and no connection twice, because the port closes those that rest."""
    with requests.Session() as session:
        session.trust_env = False
        session.headers["connection"] = "close"
        yield session


@pytest.fixture(scope="module")
def seen():
    """How often each status was answered, by operation."""
    return defaultdict(Counter)


def checked(case, port, client, token, *, excluded=()):
    """Send the request, and check that the answer is as the document says; return its status."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    excluded = [CHECKS.get_one(name) for name in excluded]
    answer = case.call_and_validate(
        base_url=port, session=client, headers=headers, timeout=WITHIN, excluded_checks=excluded
    )
    return answer.status_code


def beyond_words(case):
    """Whether the document allows this request, and the API may refuse it by a rule that no JSON schema can express.

    A duration is more than zero and at most a year; `after` is the `next` of a page; `token_id` goes with no filter;
    no text has a NUL, because PostgreSQL cannot hold it.
    """
    query = dict(case.query or {})
    given = query | (case.body if isinstance(case.body, dict) else {})
    durations = [given[name] for name in ("since", "for") if given.get(name)]
    ids = given.get("token_ids")
    texts = [each for each in (*given.values(), *(ids if isinstance(ids, list) else ())) if isinstance(each, str)]
    return (
        "\0" in "".join(texts)
        or any(seconds_of(str(each)) is None for each in durations)
        or (bool(query.get("after")) and case.path == "/api/tokens")
        or bool(query.get("token_id") and (query.get("outcome") or query.get("since")))
    )


@ACTS.parametrize()
def test_who_may_act_is_answered_as_the_document_says(case, port, client, seen):
    excluded = ["positive_data_acceptance"] if beyond_words(case) else []

    status = checked(case, port, client, TOKEN, excluded=excluded)

    seen[case.operation.label][status] += 1


def test_each_operation_did_what_it_is_for(seen):
    assert {label: 200 in statuses for label, statuses in seen.items()} == dict.fromkeys(labels(ACTS), True)


@READS.include(method="GET").parametrize()
def test_who_may_look_is_answered_as_the_document_says(case, port, client):
    excluded = ["positive_data_acceptance"] if beyond_words(case) else []

    checked(case, port, client, READ_TOKEN, excluded=excluded)


@REFUSED.include(method="POST").parametrize()
def test_who_may_look_may_not_act_whatever_is_sent(case, port, client):
    assert checked(case, port, client, READ_TOKEN) in {403, 405}


@REFUSED.parametrize()
def test_nobody_is_told_anything_whatever_is_sent(case, port, client):
    assert checked(case, port, client, None) == 401


@pytest.mark.parametrize(("token", "status"), [(TOKEN, 200), (READ_TOKEN, 200), (None, 401)])
def test_a_stream_is_none_of_the_documents_operations_and_has_a_test_of_its_own(port, client, token, status):
    assert "/events" not in document("")["paths"]
    headers = {"authorization": f"Bearer {token}"} if token else {}

    with client.get(f"{port}/events", headers=headers, timeout=WITHIN, stream=True) as answer:
        began = next(answer.iter_lines())

    assert answer.status_code == status
    kind = answer.headers["content-type"]
    assert (kind.startswith("text/event-stream"), began) == (
        (True, b"retry: 1000") if token else (False, b"unauthorized")
    )


def test_no_operation_is_left_out():
    assert labels(ACTS) == sorted(
        f"{method.upper()} {path}" for path, each in document("")["paths"].items() for method in each
    )


def labels(schema):
    return sorted(each.ok().label for each in schema.get_all_operations())
