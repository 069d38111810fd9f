"""`reactor show`: from it alone one can say what became of a token, why, and what it cost."""

import json
import re
from decimal import Decimal
from html import unescape

import pytest
from anyio import to_thread
from conftest import command
from doubles import Barrier, DirectedProvider, running
from served import served

from reactor.database.discovery import discover
from reactor.errors import ContentPolicyError, PermanentError, TransientError
from reactor.operations.history import MOST
from reactor.operations.story import story_of
from reactor.operations.timeline import bill, cost_of, headline, purchases, steps, story_json, timeline
from reactor.providers import Prediction

pytestmark = pytest.mark.anyio

ENTRY = """
    INSERT INTO reactor.attempts (tokens_table, key, token_id, epoch, worker, outcome, ended_at, {names})
    SELECT 'public.tokens_s0', id::text, token_id, {epoch}, 7, '{outcome}', now() + interval '{after} s', {values}
    FROM tokens_s0
"""

MANY = """
    INSERT INTO reactor.attempts (tokens_table, key, epoch, outcome, ended_at)
    SELECT 'public.tokens_s0', id::text, number, 'retry', now() + number * interval '1 s'
    FROM tokens_s0, generate_series(1, $1::integer) AS number
"""
HOSTILE = "U&'\\001b]0;owned\\0007 \\202e forged'"
HOSTILE_ENTRY = f"""
    INSERT INTO reactor.attempts
      (tokens_table, key, epoch, outcome, error, model, web_url, prediction_id, error_type)
    SELECT 'public.tokens_s0', id::text, 1, 'failed', {HOSTILE}, {HOSTILE}, {HOSTILE}, {HOSTILE}, {HOSTILE}
    FROM tokens_s0
"""


@pytest.fixture
async def tell(connection, database, open_session):
    """The story of token 1."""
    session = open_session(database)
    table = await discover(session, "tokens_s0")

    async def tell(number="1"):
        return await story_of(session, table, number)

    return tell


@pytest.fixture
def write(connection):
    """Write an entry of the history of every token."""

    async def write(outcome, *, epoch=1, after=0, **given):
        given = {"error": None} | given
        values = ", ".join("NULL" if value is None else repr(value) for value in given.values())
        await connection.execute(
            ENTRY.format(names=", ".join(given), values=values, epoch=epoch, outcome=outcome, after=after)
        )

    return write


def words(story):
    return [moment.words for moment in timeline(story)]


async def ended(prediction):
    return prediction


async def test_a_failed_token_says_why_and_what_it_cost(database, make_token, tell):
    provider = DirectedProvider()
    provider.script["wait"] = [
        ContentPolicyError("NSFW content detected"),
        lambda _: ended(
            Prediction("prediction2", error=PermanentError("no such style"), predict_seconds=1.5, images=1)
        ),
    ]
    async with running(database, provider, price_per_image="0.003") as (_, log):
        await make_token()
        await log.wait("token.generation.failed")

    story = await tell()

    assert headline(story) == (
        "Token 1 failed: no such style. Bought 2 predictions: 1 image, 1.5 s of the model, cost 0.003."
    )
    first, second = [step.entry for step in steps(story)]
    minted, claimed, *told = words(story)
    assert minted == "minted"
    assert claimed.startswith(f"claimed by worker {first.worker} (epoch 1), after a wait of 0.")
    assert told[0] == f"bought prediction prediction1 with seed {first.seed}"
    assert told[1].startswith("attempt 1 was rejected, and went on with the fallback prompt: NSFW content detected")
    assert told[1].endswith(" (ContentPolicyError); prediction prediction1 0 images, cost 0.000")
    assert told[2] == f"bought prediction prediction2 with seed {second.seed} and the fallback prompt"
    assert told[3].startswith("attempt 2 failed for good: no such style (PermanentError)")
    assert told[3].endswith("; prediction prediction2 ran 1.50 s, 1 image, cost 0.003")
    assert len(told) == 4


async def test_a_wait_is_since_the_mint_or_since_the_attempt_before(make_token, connection, write, tell):
    await make_token()
    await connection.execute("UPDATE tokens_s0 SET mint_timestamp = now() - interval '30 s'")
    await connection.execute("UPDATE tokens_s0 SET status = 'ready', image_url = 'x'")
    at = "clock_timestamp() + interval '{} s'"
    await write("retry", after=5, error="try later")
    await write("succeeded", epoch=2, after=20)
    await connection.execute(f"UPDATE reactor.attempts SET claimed_at = {at.format(0)} WHERE epoch = 1")
    await connection.execute(f"UPDATE reactor.attempts SET claimed_at = {at.format(12)} WHERE epoch = 2")

    first, second = steps(await tell())

    assert first.waited == pytest.approx(30, abs=2)
    assert second.waited == pytest.approx(7, abs=2)


async def test_a_token_that_was_begun_anew_by_hand_says_so(database, make_token, connection, tell):
    provider = DirectedProvider()
    provider.script["wait"] = [PermanentError("no such style")]
    async with running(database, provider) as (_, log):
        await make_token()
        await log.wait("token.generation.failed")
        await connection.execute("UPDATE tokens_s0 SET status = 'detected'")
        await log.wait("token.generation.succeeded")

    story = await tell()

    assert [step.reset for step in steps(story)] == [False, True]
    assert "begun anew by hand: its status was set back to detected" in words(story)
    assert headline(story).startswith("Token 1 has its image, which waits for the next stage. Bought 2 predictions")


async def test_a_token_that_was_begun_anew_and_waits_says_so_too(make_token, write, tell):
    await make_token()
    await write("failed", error="no such style")

    assert words(await tell())[-1] == "now: begun anew by hand, and waits for a worker"


async def test_a_retry_is_no_new_beginning(database, make_token, tell):
    provider = DirectedProvider()
    provider.script["wait"] = [TransientError("it broke", retry_after=0.0)]
    async with running(database, provider) as (_, log):
        await make_token()
        await log.wait("token.generation.succeeded")

    story = await tell()

    assert [step.reset for step in steps(story)] == [False, False]
    assert any(told.startswith("attempt 1 failed, and is to be repeated: it broke") for told in words(story))


async def test_a_purchase_that_two_entries_name_counts_once(make_token, write, tell):
    await make_token()
    await write("rescued", prediction_id="p", seed=5)
    await write("succeeded", epoch=2, after=1, prediction_id="p", seed=5, images=1, cost=0.003, predict_seconds=2.0)
    await write("lost", epoch=1, after=2, prediction_id="p", seed=5, images=1, cost=0.003)

    story = await tell()

    (purchase,) = purchases(story)
    assert (purchase.prediction_id, purchase.outcome) == ("p", "succeeded")
    assert cost_of(story) == Decimal("0.003")
    assert sum(told.startswith("bought prediction p") for told in words(story)) == 1
    assert "worker 7 died (epoch 1), and another one took the token over" in words(story)
    assert any(told.startswith("worker 7 (epoch 1) had lost the token") for told in words(story))


async def test_a_token_that_is_being_made_says_by_whom_and_what_it_has_bought(database, make_token, tell):
    provider, generating = DirectedProvider(), Barrier()
    provider.script["wait"] = [generating]
    async with running(database, provider) as (_, log):
        await make_token()
        await generating.entered()
        story = await tell()
        generating.open()
        await log.wait("token.generation.succeeded")

    assert headline(story).startswith(f"Token 1 is being made by worker {story.worker}.")
    assert words(story)[-1].startswith(f"now: worker {story.worker} (epoch 1) makes it with seed {story.seed}")


@pytest.mark.parametrize(
    ("ago", "then"),
    [("10 min", ", and leaves the provider in 50 min"), ("2 hours", "; it may have left the provider"), (None, "")],
)
async def test_an_image_that_waits_says_how_long_it_can(make_token, connection, tell, ago, then):
    await make_token(status="uploading", image_url="https://x/1")
    if ago:
        await connection.execute(f"UPDATE tokens_s0 SET generation_seeded_at = now() - interval '{ago}'")

    assert words(await tell())[-1] == f"now: the image waits for the next stage{then}"


async def test_the_next_stage_is_told_as_far_as_it_is_known(make_token, tell):
    await make_token(status="revealed", image_url="https://x/1")

    story = await tell()

    assert headline(story).startswith("Token 1 is revealed: the next stage has taken its image.")
    assert words(story)[-1] == "now: the next stage has set it to revealed; when, is not known"


async def test_only_the_newest_entries_are_read(make_token, connection, tell):
    await make_token()
    await connection.execute(MANY, MOST + 1)

    story = await tell()

    assert (len(story.history), steps(story)[0].entry.epoch) == (MOST, 2)
    assert "older entries of the history are not shown" in words(story)


async def test_entries_of_another_table_are_none_of_its_own(make_token, write, connection, tell):
    await make_token()
    await write("failed")
    await connection.execute("UPDATE reactor.attempts SET tokens_table = 'public.tokens_s1'")

    assert (await tell()).history == []


async def test_no_such_token_has_no_story(tell):
    assert await tell("7") is None
    assert await tell("fox") is None


async def test_the_story_as_json_is_complete(make_token, write, tell):
    await make_token(prompt="a private wish")
    await write("failed", error="no such style", prediction_id="p", images=1, cost=0.003)

    told = json.loads(json.dumps(story_json(await tell())))

    assert (told["token_id"], told["cost"], told["purchases"]) == (1, 0.003, 1)
    assert told["attempts_ended"][0]["error"] == "no such style"
    assert told["timeline"][0]["words"] == "minted"
    assert "private" not in json.dumps(told)


def test_a_hostile_text_of_the_history_controls_no_terminal(reactor, database):
    command(database, "INSERT INTO tokens_s0 (status, generation_error) VALUES ('failed', 'x')", HOSTILE_ENTRY)

    code, out, _ = reactor("show", "1")

    assert code == 0
    assert "forged" in out
    assert not {"\x1b", "\x07", "\u202e"} & {*out}
    assert json.loads(reactor("show", "1", "--json")[1])["attempts_ended"][0]["outcome"] == "failed"


async def test_the_page_and_the_api_tell_the_same_story_as_the_command(database, make_token, write, tell, reactor):
    await make_token(status="failed", generation_error="no such style")
    page_of_it = "https://replicate.com/p/p1"
    await write("retry", error="it broke", prediction_id="p1", web_url=page_of_it, images=0, after=1)
    await write("failed", error="no such style", epoch=2, prediction_id="p2", web_url="javascript:alert(1)", after=2)
    async with served(database) as (client, _):
        page, api = (await client.get("/tokens/1")).text, (await client.get("/api/tokens/1")).json()
    told = json.loads((await to_thread.run_sync(reactor, "show", "1", "--json"))[1])

    assert api == told
    listed = page[page.index('<ol class="timeline">') : page.index("</ol>")]
    shown = [unescape(re.sub("<[^>]+>", "", each)) for each in re.findall(r'<p class="words">(.*?)</p>', listed)]
    story = await tell()
    assert shown == words(story) == [moment["words"] for moment in told["timeline"]]
    assert bill(story) in unescape(page)
    assert re.findall(r'href="([^"]+)"', listed) == [page_of_it]
    assert re.findall(r'class="(retry|failed)"', listed) == ["retry", "failed"]


async def test_a_long_error_leaves_the_cost_of_its_attempt_on_the_page(database, make_token, write):
    await make_token(status="failed", generation_error="no")
    await write("failed", error="it broke " * 110, prediction_id="p", images=1, cost=0.25)
    async with served(database) as (client, _):
        page = (await client.get("/tokens/1")).text

    assert "it broke it broke" in page
    assert "…; prediction p 1 image, cost 0.25</p>" in page


async def test_a_secret_in_the_history_is_not_shown_on_the_page(database, make_token, write):
    await make_token(status="failed", generation_error="no")
    await write("failed", error="the token r8_a_secret_that_must_not_be_told is bad")
    async with served(database) as (client, _):
        page = (await client.get("/tokens/1")).text

    assert "the token [redacted] is bad" in page
    assert "r8_a_secret" not in page
