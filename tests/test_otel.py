"""Spans and measurements of real workers, as the SDK of OpenTelemetry exports them."""

import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager

import anyio
import pytest
from doubles import SECRET, Barrier, DirectedProvider, Log, running
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from reactor.database.discovery import find
from reactor.database.rights import needed
from reactor.errors import TransientError
from reactor.measures import INSTRUMENTS
from reactor.otel import opentelemetry
from reactor.otel.spans import MOST_OPEN
from reactor.providers.replicate import ReplicateProvider
from reactor.sandbox import Sandbox, Timing
from reactor.text.redaction import Redactor

pytestmark = pytest.mark.anyio

MODEL = "black-forest-labs/flux-schnell"
PROMPT = "a lighthouse nobody may read about"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
MESSAGING = {"messaging.system": "postgresql", "messaging.destination.name": "public.tokens_s0"}
CALL = {
    "gen_ai.operation.name": "generate_content",
    "gen_ai.provider.name": "replicate",
    "gen_ai.request.model": MODEL,
    "gen_ai.output.type": "image",
}


class Exported:
    """What the host's SDK has got: spans and measurements."""

    def __init__(self):
        self.spans, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.sinks = opentelemetry(Redactor([SECRET]), model=MODEL, tracers=self.tracers, meters=meters)

    def of(self, name):
        """The spans of one operation, in the order of their beginning."""
        found = [span for span in self.spans.get_finished_spans() if span.name.split()[0] == name]
        return sorted(found, key=lambda span: span.start_time)

    def one(self, name):
        (span,) = self.of(name)
        return span

    def measured(self):
        """Instrument and attributes → the sum of a counter, or the count of a histogram."""
        found = {}
        (resource,) = self.reader.get_metrics_data().resource_metrics
        for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
            for point in metric.data.data_points:
                value = point.value if hasattr(point, "value") else point.count
                found[metric.name, *sorted(point.attributes.items())] = value
        return found

    @property
    def text(self):
        return "\n".join(span.to_json() for span in self.spans.get_finished_spans()) + repr(self.measured())


@pytest.fixture
def exported():
    exported = Exported()
    yield exported
    for forbidden in (PROMPT, "a calm sea", SECRET, "http://", "https://", "storm"):
        assert forbidden not in exported.text


@pytest.fixture
def sandbox():
    return Sandbox(Timing.instant())


@pytest.fixture
def working(database, sandbox, exported):
    """A worker that buys from the sandbox by the real SDK."""

    @asynccontextmanager
    async def working(**given):
        async with sandbox.serve() as url:
            provider = ReplicateProvider(SECRET, base_url=url)
            try:
                async with running(database, provider, sinks=exported.sinks, **given) as (_, log):
                    yield log
            finally:
                await provider.aclose()

    return working


def contexts(links):
    return [(link.context.trace_id, link.context.span_id) for link in links]


def context(span):
    return span.context.trace_id, span.context.span_id


def inside(inner, outer):
    return outer.start_time <= inner.start_time <= inner.end_time <= outer.end_time


async def test_a_success_is_a_claim_and_an_attempt_with_a_call_and_a_settle(working, make_token, token_row, exported):
    async with working() as log:
        token_id = await make_token(prompt=PROMPT)
        await log.wait("token.generation.succeeded")

    row, (started,) = await token_row(token_id), log.of("worker.started")
    receive, process, call, settle = map(exported.one, ("receive", "process", "generate_content", "settle"))
    kinds = SpanKind.CLIENT, SpanKind.CONSUMER, SpanKind.CLIENT, SpanKind.CLIENT
    assert tuple(span.kind for span in (receive, process, call, settle)) == kinds
    assert {receive.name, process.name, call.name, settle.name} == {
        f"{name} public.tokens_s0" for name in ("receive", "process", "settle")
    } | {f"generate_content {MODEL}"}
    assert (receive.parent, process.parent) == (None, None)
    assert contexts(process.links) == [context(receive)]
    assert (call.parent.span_id, settle.parent.span_id) == (process.context.span_id,) * 2
    assert inside(call, process)
    assert inside(settle, process)
    assert call.end_time <= settle.start_time
    client = {"messaging.client.id": str(started["worker"])}

    def messaging(operation):
        return MESSAGING | client | {"messaging.operation.name": operation, "messaging.operation.type": operation}

    assert dict(receive.attributes) == messaging("receive") | {"messaging.batch.message_count": 1}
    assert dict(settle.attributes) == messaging("settle")
    assert dict(process.attributes) == messaging("process") | {
        "messaging.message.id": str(token_id),
        "reactor.attempt": 1,
        "reactor.max_attempts": 3,
        "reactor.epoch": 1,
        "reactor.censored": False,
        "reactor.rescued": False,
        "reactor.resumed": False,
        "reactor.outcome": "succeeded",
        "reactor.prediction_id": row["generation_prediction_id"],
    }
    assert dict(call.attributes) == CALL | {
        "gen_ai.request.seed": row["generation_seed"],
        "gen_ai.response.id": row["generation_prediction_id"],
    }
    assert {span.status.status_code for span in (receive, process, call, settle)} == {StatusCode.UNSET}


async def test_a_retry_is_two_attempts_of_which_the_first_has_an_error(working, make_token, exported):
    async with working() as log:
        await make_token(prompt=f"{PROMPT} [sandbox: failed text=E9828 times=1]")
        await log.wait("token.generation.succeeded")

    first, second = exported.of("process")
    assert (first.attributes["reactor.outcome"], first.attributes["error.type"]) == ("retry", "TransientError")
    assert (second.attributes["reactor.outcome"], second.attributes["reactor.attempt"]) == ("succeeded", 2)
    assert [span.status.status_code for span in (first, second)] == [StatusCode.ERROR, StatusCode.UNSET]
    assert first.status.description is None
    assert [contexts(each.links) for each in (first, second)] == [[context(each)] for each in exported.of("receive")]
    calls = exported.of("generate_content")
    assert [span.attributes.get("error.type") for span in calls] == ["TransientError", None]
    assert [span.attributes.get("error.type") for span in exported.of("settle")] == [None, None]


async def test_a_failure_tells_its_type_and_not_its_words(working, make_token, exported):
    async with working() as log:
        await make_token(prompt=f"{PROMPT} [sandbox: 422]")
        failed = await log.wait("token.generation.failed")

    process, call = exported.one("process"), exported.one("generate_content")
    assert [span.attributes["error.type"] for span in (process, call)] == ["PermanentError"] * 2
    assert failed["error_message"] not in exported.text
    assert "gen_ai.response.id" not in call.attributes


async def test_a_rejected_prompt_is_two_calls_in_one_attempt(working, make_token, sandbox, exported):
    async with working() as log:
        await make_token(prompt=f"{PROMPT} [sandbox: nsfw]")
        await log.wait("token.generation.succeeded")

    process, calls = exported.one("process"), exported.of("generate_content")
    assert process.attributes["reactor.censored"] is True
    assert [span.attributes.get("error.type") for span in calls] == ["ContentPolicyError", None]
    assert [span.attributes["gen_ai.response.id"] for span in calls] == [bought.id for bought in sandbox.ledger]
    assert len({span.attributes["gen_ai.request.seed"] for span in calls}) == 2


async def test_a_rescue_that_resumes_is_an_attempt_without_a_claim(working, make_token, connection, exported):
    async with working() as log:
        await make_token(prompt=PROMPT)
        await log.wait("token.generation.succeeded")
        await connection.execute(
            "UPDATE tokens_s0 SET status = 'generating', generation_worker = 7, generation_lease_ends_at = '2000-01-01'"
        )
        await log.wait("token.generation.succeeded", times=2)

    rescued = exported.of("process")[1]
    assert (rescued.attributes["reactor.rescued"], rescued.attributes["reactor.resumed"]) == (True, True)
    assert rescued.attributes["reactor.outcome"] == "succeeded"
    assert contexts(rescued.links) == []
    assert len(exported.of("generate_content")) == len(exported.of("receive")) == 1


async def test_an_attempt_that_a_stop_cuts_short_is_released(database, make_token, exported):
    provider, held = DirectedProvider(), Barrier()
    provider.script["wait"] = [held]
    async with running(database, provider, sinks=exported.sinks):
        await make_token()
        await held.entered()

    process, call, settle = map(exported.one, ("process", "generate_content", "settle"))
    assert process.attributes["reactor.outcome"] == "released"
    assert process.status.status_code is StatusCode.UNSET
    assert call.attributes["error.type"] == "released"
    assert "error.type" not in settle.attributes


async def test_a_token_that_another_worker_took_is_lost_where_it_is_settled(database, make_token, connection, exported):
    provider, held = DirectedProvider(), Barrier()
    provider.script["wait"] = [held]
    async with running(database, provider, sinks=exported.sinks) as (_, log):
        await make_token()
        await held.entered()
        await connection.execute("UPDATE tokens_s0 SET generation_epoch = 5, generation_worker = 7")
        held.open()
        await log.wait("token.lease_lost")

    lost = [exported.one(name) for name in ("process", "settle", "generate_content")]
    assert [span.attributes["error.type"] for span in lost] == ["lost"] * 3


TRACEPARENTS = {
    f"00-{TRACE}-{SPAN}-01": True,
    f"cc-{TRACE}-{SPAN}-00-of-a-later-version": True,
    None: False,
    "": False,
    f"00-{TRACE}-{SPAN}-01-more": False,
    f"ff-{TRACE}-{SPAN}-01": False,
    f"00-{TRACE}-{'0' * 16}-01": False,
    f"00-{'0' * 32}-{SPAN}-01": False,
    f"00-{TRACE.upper()}-{SPAN}-01": False,
    f"cc-{TRACE}-{SPAN}-01-{'x' * 456}": True,
    f"cc-{TRACE}-{SPAN}-01-{'x' * 457}": False,
    f"00-{TRACE}-{SPAN}-01\n{PROMPT}": False,
}


@pytest.mark.parametrize(("given", "linked"), TRACEPARENTS.items())
async def test_an_attempt_links_to_the_producers_transaction(working, make_token, connection, exported, given, linked):
    await connection.execute("ALTER TABLE tokens_s0 ADD COLUMN traceparent text")
    async with working() as log:
        await make_token(prompt=PROMPT, traceparent=given)
        await log.wait("token.generation.succeeded")

    process, receive = exported.one("process"), exported.one("receive")
    producer = [(int(TRACE, 16), int(SPAN, 16))] if linked else []
    assert contexts(process.links) == [context(receive), *producer]
    assert [link.context.is_remote for link in process.links] == [False, *[True] * linked]
    assert log.of("token.generation.started")[0].get("traceparent") == (given[:55] if linked else None)


async def test_every_attempt_links_to_it_also_that_of_a_rescuer(working, make_token, connection, exported):
    await connection.execute("ALTER TABLE tokens_s0 ADD COLUMN traceparent varchar(55)")
    async with working() as log:
        await make_token(prompt=f"{PROMPT} [sandbox: failed text=E9828 times=1]", traceparent=f"00-{TRACE}-{SPAN}-00")
        await log.wait("token.generation.succeeded")
        await connection.execute(
            "UPDATE tokens_s0 SET status = 'generating', generation_worker = 7, generation_lease_ends_at = '2000-01-01'"
        )
        await log.wait("token.generation.succeeded", times=2)

    assert [contexts(span.links)[-1][0] for span in exported.of("process")] == [int(TRACE, 16)] * 3


async def test_the_column_is_only_used_where_it_is_a_text_and_its_privilege_is_needed(connection):
    found = {}
    for kind in (None, "bytea", "text"):
        if kind:
            await connection.execute(
                f"ALTER TABLE tokens_s0 DROP COLUMN IF EXISTS traceparent, ADD COLUMN traceparent {kind}"
            )
        table = await find(connection.fetch, "tokens_s0")
        found[kind] = [each.name for each in needed(table) if each.column == "traceparent"]

    assert found == {None: [], "bytea": [], "text": ["SELECT"]}


async def test_the_meter_records_what_prometheus_counts_and_how_long_attempts_and_calls_took(
    database, make_token, exported
):
    provider = DirectedProvider()
    provider.script["create"] = [TransientError("boom", retry_after=0.0)]
    async with running(database, provider, sinks=exported.sinks) as (_, log):
        await make_token()
        await log.wait("token.generation.succeeded")

    measured = exported.measured()
    process = {**MESSAGING, "messaging.operation.name": "process"}
    call = {name: value for name, value in CALL.items() if name != "gen_ai.output.type"}
    for name, attributes in (("messaging.process.duration", process), ("gen_ai.client.operation.duration", call)):
        for error in ({}, {"error.type": "TransientError"}):
            assert measured.pop((name, *sorted((attributes | error).items()))) == 1
    assert measured == {
        ("reactor.claims",): 2,
        ("reactor.attempts", ("reactor.outcome", "retry")): 1,
        ("reactor.attempts", ("reactor.outcome", "succeeded")): 1,
        ("reactor.retries", ("reactor.attempt_number", "1")): 1,
        ("reactor.generation.duration",): 1,
        ("reactor.reaction.duration",): 1,
        ("reactor.purchases", ("reactor.outcome", "used")): 1,
    }
    assert all(each.opentelemetry.startswith("reactor.") for each in INSTRUMENTS)


async def test_a_span_processor_that_raises_stops_no_generation(database, make_token, exported):
    class Broken(SpanProcessor):
        def on_start(self, span, parent_context=None):
            raise RuntimeError

    exported.tracers.add_span_processor(Broken())
    behind = Log()
    async with running(database, DirectedProvider(), sinks=[*exported.sinks, behind]) as (_, log):
        await make_token()
        await behind.wait("token.generation.succeeded")

    assert behind.events == log.events
    assert not log.errors()


def start(sink, token_id, epoch=1):
    sink("token.generation.started", {"token_id": token_id, "attempt": 1, "max_attempts": 3, "epoch": epoch})


async def test_an_attempt_whose_end_is_told_after_the_next_has_begun_has_its_own_outcome(exported):
    (sink,) = exported.sinks

    start(sink, 1, epoch=1)
    start(sink, 1, epoch=2)
    sink("token.generation.retry", {"token_id": 1, "epoch": 1, "error_type": "TransientError"})
    sink("token.generation.succeeded", {"token_id": 1, "epoch": 2, "duration_seconds": 1.0})

    outcomes = {span.attributes["reactor.epoch"]: span.attributes["reactor.outcome"] for span in exported.of("process")}
    assert outcomes == {1: "retry", 2: "succeeded"}


async def test_attempts_whose_end_no_event_told_are_closed(exported):
    (sink,) = exported.sinks
    sink("worker.started", {"worker": 7, "table": '"public"."tokens_s0"'})

    for token_id in range(MOST_OPEN):
        start(sink, token_id)
    most = len(exported.of("process"))
    start(sink, MOST_OPEN)
    too_many = len(exported.of("process"))
    sink("worker.stopped", {"worker": 7})

    assert (most, too_many, len(exported.of("process"))) == (0, 1, MOST_OPEN + 1)
    assert {span.attributes["error.type"] for span in exported.of("process")} == {"unknown"}


async def test_a_key_that_is_a_text_is_cut_and_cleaned(exported):
    (sink,) = exported.sinks
    sink("worker.started", {"worker": 7, "table": '"public"."tokens_s0"'})

    start(sink, f"\x1b{SECRET}{'x' * 2000}")
    sink("worker.stopped", {"worker": 7})

    message_id = exported.one("process").attributes["messaging.message.id"]
    assert message_id.startswith("\ufffd[redacted]x")
    assert len(message_id) == 200


def test_without_a_provider_there_is_no_sink():
    assert opentelemetry(Redactor(), model=MODEL) == []


BLOCKED = "import sys; sys.modules['opentelemetry'] = None"
EXPORTED = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.to_json(None) + "\\n")))
trace.set_tracer_provider(provider)
"""
RUN = "from reactor.cli import main; main(['run', '--drain'])"
LIFESPAN = """
import asyncio, logging
from reactor import lifespan
class Done(logging.Handler):
    def emit(self, record):
        if record.getMessage().startswith("token.generation.succeeded"):
            done.set()
async def main():
    async with lifespan(None):
        await done.wait()
done = asyncio.Event()
logging.getLogger("reactor").addHandler(Done())
logging.getLogger("reactor").setLevel("INFO")
asyncio.run(main())
"""


@pytest.mark.parametrize("program", [RUN, LIFESPAN], ids=["run", "lifespan"])
@pytest.mark.parametrize("host", [BLOCKED, EXPORTED, ""], ids=["without the package", "with an SDK", "without an SDK"])
async def test_run_and_lifespan_trace_where_the_host_has_set_it_up(
    database, sandbox, make_token, token_row, tmp_path, host, program
):
    async with sandbox.serve() as url:
        token_id = await make_token(prompt=PROMPT)
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ}
        given = {
            "DATABASE_URL": database,
            "REPLICATE_API_TOKEN": SECRET,
            "REPLICATE_BASE_URL": url,
            "FALLBACK_CENSORED_PROMPT": "a calm sea",
            "HTTP_PORT": "0",
        }
        with anyio.fail_after(40):
            done = await anyio.run_process(
                [sys.executable, "-c", f"{host}\n{program}"], env=kept | given, cwd=tmp_path, stderr=subprocess.STDOUT
            )

    told = [json.loads(line) for line in done.stdout.decode().splitlines() if line.startswith("{")]
    names = [line["name"].split()[0] for line in told if "name" in line]
    assert sorted(names) == (["generate_content", "process", "receive", "settle"] if host is EXPORTED else [])
    assert (await token_row(token_id))["status"] == "uploading"
    assert "Traceback" not in done.stdout.decode()
