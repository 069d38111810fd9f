"""The page in a real Chromium, of a reactor that runs. `make test-browser` runs this.

Any violation of the Content-Security-Policy and any error on the console fails the test. Pictures of the pages go to
the folder REACTOR_SCREENSHOTS, if it is set.
"""

import re
from contextlib import asynccontextmanager

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect
from served import READ_TOKEN, TOKEN, hosted, served

from browser.conftest import DESK, shot
from reactor.sandbox import Fault, Sandbox, Timing

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

SCRIPT = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def house(database, open_page):
    """A reactor and a sandbox. At the end the pages are closed first, so that they do not complain of its absence."""

    @asynccontextmanager
    async def house(*, timing=None, **given):
        sandbox = Sandbox(timing or Timing(queue=(0.1, 0.2), run=(0.8, 1.2)))
        async with sandbox.serve() as base_url, served(database, base_url, **given) as (client, log):
            await log.wait("listener.connected")
            yield str(client.base_url).rstrip("/"), log, sandbox
            await open_page.close_all()

    return house


async def accessible(page):
    found = await Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


async def test_a_mint_appears_at_once_and_becomes_its_picture(house, open_page, make_token):
    async with house() as (url, _, _):
        page = await open_page(url)
        await expect(page.get_by_role("heading", name="Nothing has been minted yet")).to_be_visible()
        await expect(page.locator("#updates .word")).to_have_text("Live")
        token_id = await make_token(prompt="a lighthouse in a storm")
        card = page.locator(f"#t-{token_id}")
        await expect(card).to_have_class(re.compile("waiting|working"))
        await expect(card).to_have_class("card picture")
        await expect(card.get_by_role("img", name="a lighthouse in a storm")).to_be_visible()
        await expect(card).to_contain_text("expires in 60 min")
        drawn = "image => image.complete && image.naturalWidth > 0"
        assert await page.wait_for_function(f"() => ({drawn})(document.querySelector('#t-{token_id} img'))")
        await shot(page, "picture")


async def test_a_failed_token_is_retried_by_a_click_and_focus_and_open_details_stay(house, open_page, make_token):
    async with house() as (url, log, _):
        token_id = await make_token(prompt="an odd one [sandbox: 422 times=1]")
        await log.wait("token.generation.failed")
        page = await open_page(url)
        await page.locator("#pause summary").click()
        await page.get_by_label("Why").fill("half a sentence")
        card = page.locator(f"#t-{token_id}")
        await expect(card.locator(".why")).to_contain_text("Replicate answered 422")
        await shot(page, "failed")
        await card.get_by_role("button", name="Retry").click()
        await expect(page.locator("#flash")).to_contain_text("1 token set back to be made again.")
        await expect(card).to_have_class("card picture")
        assert await page.get_by_label("Why").input_value() == "half a sentence"
        assert await page.locator("#pause").get_attribute("open") is not None
        assert log.of("http.acted")[0]["token_ids"] == [str(token_id)]


async def test_a_conflict_is_said(house, open_page, make_token, ask):
    await ask("pause", "a test", None)
    token_id = await make_token(status="failed", generation_error="no")
    async with house() as (url, _, _):
        page = await open_page(f"{url}/tokens/{token_id}")
        await page.evaluate("sessionStorage.setItem('updates', 'paused')")
        await page.reload()
        await ask("retry", [str(token_id)])
        await page.get_by_role("button", name="Retry").click()
        await expect(page.locator("#flash")).to_contain_text("Somebody retried it already")


async def test_a_script_in_prompt_error_and_reason_stays_text(house, open_page, make_token, ask):
    await ask("pause", SCRIPT, None)
    token_id = await make_token(prompt=SCRIPT, status="failed", generation_error=SCRIPT)
    await make_token(prompt=SCRIPT, status="uploading", image_url="javascript:document.title='taken'")
    await make_token(prompt=SCRIPT, status="uploading", image_url='https://127.0.0.1:44441/"onerror="x')
    async with house() as (url, _, _):
        page = await open_page(url, allowed=("ERR_CONNECTION_REFUSED", "failed: https://127.0.0.1:44441/"))
        await expect(page.locator(f"#t-{token_id} .why")).to_contain_text("<script>")
        await expect(page.locator("#gate .why")).to_contain_text("<script>")
        assert await page.locator("main script, main img[src=x]").count() == 0
        assert await page.locator("[href^=javascript]").count() == 0
        assert "taken" not in await page.title()
        await page.locator(f"#t-{token_id} .frame").click()
        await expect(page.locator("figcaption")).to_contain_text("<script>")
        await expect(page.get_by_role("heading", name=f"Token {token_id}")).to_be_visible()
        await shot(page, "script")
        assert "taken" not in await page.title()


async def test_pause_stops_and_resume_starts_and_a_second_tab_sees_it(house, open_page, make_token):
    async with house() as (url, log, _):
        page, other = await open_page(url), await open_page(url)
        await page.locator("#pause summary").click()
        await page.get_by_label("Why").fill("the printer burns")
        await page.get_by_role("button", name="Close the gate").click()
        await expect(page.locator("#sentence")).to_contain_text("the printer burns")
        await expect(other.locator("#sentence")).to_contain_text("the printer burns")
        token_id = await make_token()
        await expect(other.locator(f"#t-{token_id}")).to_have_class("card waiting")
        await shot(other, "paused")
        await other.get_by_role("button", name="Resume").click()
        await expect(other.locator("#gate")).to_contain_text("Open")
        await expect(page.locator(f"#t-{token_id}")).to_have_class("card picture")
        assert [told["action"] for told in log.of("http.acted")] == ["pause", "resume"]


# Holds back that the answer to an action goes away.
HOLD_FLASH = """() => {
  const wait = window.setTimeout;
  window.setTimeout = (act, time) => { if (time === 8000) window.forget = act; else wait(act, time); };
}"""


async def test_the_answer_to_an_action_outlives_looks_and_goes_by_itself(house, open_page, make_token):
    async with house() as (url, log, _):
        first, second = [
            await make_token(prompt=f"{name} odd one [sandbox: 422 times=1]") for name in ("an", "another")
        ]
        await log.wait("token.generation.failed", 2)
        page = await open_page(url)
        await expect(page.locator("#updates .word")).to_have_text("Live")
        await page.evaluate(HOLD_FLASH)
        await page.locator(f"#t-{first}").get_by_role("button", name="Retry").click()
        await expect(page.locator(f"#t-{first}")).to_have_class("card picture")  # by looks after the action
        await expect(page.locator("#flash .said")).to_have_count(1)
        await page.locator(f"#t-{second}").get_by_role("button", name="Retry").click()
        await expect(page.locator(f"#t-{second}")).to_have_class("card picture")
        await expect(page.locator("#flash .said")).to_have_count(1)
        await page.evaluate("() => window.forget()")
        await expect(page.locator("#flash .said")).to_have_count(0)


async def test_paused_updates_are_still_said_to_be_paused_after_an_action(house, open_page, make_token, ask):
    await ask("pause", "a test", None)
    token_id = await make_token(status="failed", generation_error="no")
    async with house() as (url, _, _):
        page = await open_page(url)
        await page.keyboard.press("u")
        await page.locator(f"#t-{token_id}").get_by_role("button", name="Retry").click()
        await expect(page.locator("#flash")).to_contain_text("1 token set back")
        assert await page.locator("#updates .word").inner_text() == "Updates are paused"
        assert await page.locator("#updates").get_attribute("aria-pressed") == "true"


# Holds what the page wants to do later.
HOLD = "() => { window.wait = window.setTimeout; window.setTimeout = act => { window.held = act; }; }"


async def test_paused_updates_ask_for_nothing(house, open_page, make_token):
    async with house() as (url, log, _):
        page = await open_page(url)
        await page.add_init_script(f"({HOLD})()")
        await page.reload()
        token_id = await make_token()
        await page.wait_for_function("() => window.held")  # it is told of a change, and waits a moment before it asks
        await page.keyboard.press("u")
        await expect(page.locator("#updates")).to_have_attribute("aria-pressed", "true")
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        await page.evaluate("() => window.held()")
        await log.wait("token.generation.succeeded")
        assert await page.evaluate("() => new Promise(done => window.wait(done, 1000, 'waited'))") == "waited"
        assert await page.locator(f"#t-{token_id}").count() == 0
        assert asked == []
        await page.evaluate("() => { window.setTimeout = window.wait; }")
        await page.keyboard.press("u")
        await expect(page.locator(f"#t-{token_id}")).to_have_class("card picture")


# Keeps each word of the button that it may not say.
WATCH = """() => {
  window.said = [];
  const word = document.querySelector("#updates .word");
  const look = () => { if (word.textContent !== "Live") window.said.push(word.textContent); };
  new MutationObserver(look).observe(word, { childList: true, characterData: true, subtree: true });
}"""


async def test_a_stream_that_ends_as_planned_is_not_said_to_be_lost(database, open_page):
    async with hosted(database, lasts=0.5) as (_, url):
        page = await open_page(url)
        await page.evaluate(WATCH)
        for _ in range(2):
            async with page.expect_response("**/events"):
                pass
        assert await page.evaluate("window.said") == []
        await open_page.close_all()


async def test_the_page_works_without_javascript(house, open_page, make_token):
    async with house() as (url, log, _):
        token_id = await make_token(prompt="an odd one [sandbox: 422 times=1]")
        await log.wait("token.generation.failed")
        page = await open_page(url, java_script_enabled=False)
        await page.locator(f"#t-{token_id}").get_by_role("button", name="Retry").click()
        await expect(page.locator("#flash")).to_contain_text("1 token set back")
        await log.wait("token.generation.succeeded")
        await page.goto(url)
        await expect(page.locator(f"#t-{token_id}")).to_have_class("card picture")
        await page.locator("#pause summary").click()
        await page.get_by_role("button", name="Close the gate").click()
        await expect(page.locator("#sentence")).to_contain_text("The gate is closed")
        await page.get_by_role("button", name="Resume").click()
        await expect(page.locator("#gate")).to_contain_text("Open")
        await expect(page.locator("noscript a")).to_have_count(1)


async def test_all_that_match_are_retried_after_they_were_counted(house, open_page, make_token, ask):
    await ask("pause", "a test", None)
    for number in range(30):
        await make_token(status="failed", generation_error=f"boom {number}" if number % 3 else "other")
    async with house() as (url, _, _):
        page = await open_page(f"{url}/?status=failed&matching=boom")
        await expect(page.locator(".card")).to_have_count(20)
        await shot(page, "failures")
        await page.get_by_role("link", name="Retry all that match").click()
        await expect(page.get_by_role("heading", name="Retry 20 failed tokens?")).to_be_visible()
        await accessible(page)
        await shot(page, "retry")
        await page.get_by_role("button", name="Retry them").click()
        await expect(page.locator("#flash")).to_contain_text("20 tokens set back")
        await expect(page.locator("#tab-failed b")).to_have_text("10")


# Attempts of the last hour that ended in two errors, the first of them until ten minutes ago.
RETRIED = """
    INSERT INTO reactor.attempts (tokens_table, key, epoch, outcome, error, ended_at)
    SELECT 'public.tokens_s0', number::text, 1, 'retry',
      CASE WHEN number % 5 > 0 THEN 'Replicate answered 503: no capacity for request ' || number ELSE 'Timed out' END,
      now() - number * interval '50 s' - CASE WHEN number % 5 > 0 THEN interval '10 min' ELSE interval '0' END
    FROM generate_series(1, 50) AS number
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
async def test_everybody_can_read_it(house, open_page, make_token, connection, scheme, size):
    timing = Timing(queue=(0.1, 0.2), run=(0.5, 0.8))
    await connection.execute(RETRIED)
    async with house(timing=timing) as (url, log, sandbox):
        for name in ("a fox in snow", "a harbour at dawn", "an odd one [sandbox: 422]"):
            await make_token(prompt=name)
        await log.wait("token.generation.succeeded", 2)
        await log.wait("token.generation.failed")
        sandbox.fail(Fault("queue", seconds=600.0))
        await make_token(prompt="a tower")
        page = await open_page(url, color_scheme=scheme, viewport=size, reduced_motion="reduce")
        await expect(page.locator(".card.picture")).to_have_count(2)
        await expect(page.locator(".card.working")).to_have_count(1)
        await accessible(page)
        name = f"{scheme}-{size['width']}"
        await expect(page.locator("#errors").get_by_role("img")).to_have_count(3)
        await shot(page, f"home-{name}")
        await shot(page.locator("#errors"), f"errors-{name}")
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert await page.evaluate(wide) <= 0
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
        await accessible(page)
        await page.keyboard.press("Escape")
        await page.locator(".card.picture .frame").first.click()
        await expect(page.locator(".story h1")).to_be_visible()
        await accessible(page)
        await shot(page, f"story-{name}")


async def test_a_token_signs_in_and_out_and_who_may_look_cannot_act(house, open_page, make_token, ask):
    await ask("pause", "a test", None)
    await make_token(status="failed", generation_error="no")
    wrong = "Failed to load resource: the server responded with a status of 40"
    async with house(http_token=TOKEN, http_read_token=READ_TOKEN) as (url, log, _):
        page = await open_page(url, allowed=(wrong,))
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        await accessible(page)
        await shot(page, "sign-in")
        await page.get_by_label("Token").fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.locator("#wrong")).to_be_visible()
        await page.get_by_label("Token").fill(READ_TOKEN)
        await page.keyboard.press("Enter")
        await expect(page.locator(".card")).to_have_count(1)
        assert await page.get_by_role("button", name="Retry").count() == 0
        assert await page.get_by_role("button", name="Resume").count() == 0
        (cookie,) = await page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["secure"]) == (True, "Strict", False)
        assert READ_TOKEN not in cookie["value"]
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        assert await page.context.cookies() == []
        await page.get_by_label("Token").fill(TOKEN)
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Resume").click()
        await expect(page.locator("#gate")).to_contain_text("Open")
        assert "browser that may act" in log.of("http.acted")[0]["who"]


async def test_ten_thousand_tokens_are_quick(house, open_page, connection, ask):
    await ask("pause", "a test", None)
    await connection.execute(
        """
        INSERT INTO tokens_s0 (status, generation_error, mint_timestamp)
        SELECT CASE WHEN number % 3 = 0 THEN 'failed' ELSE 'detected' END,
          CASE WHEN number % 3 = 0 THEN 'boom ' || number END, now() - number * interval '1 second'
        FROM generate_series(1, 10000) AS number
        """
    )
    async with house() as (url, _, _):
        page = await open_page(url)
        await expect(page.locator("#tab-all b")).to_have_text("10,000")
        took = await page.evaluate("performance.getEntriesByType('navigation')[0].responseEnd")
        assert took < 2000
        await page.get_by_role("link", name="Older tokens").click()
        await expect(page.locator(".card")).to_have_count(48)
        await page.locator("#matching").fill("boom 9999")
        await page.keyboard.press("Enter")
        await expect(page.locator(".card")).to_have_count(1)
