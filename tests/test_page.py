"""The page's HTML, as a browser without JavaScript gets it. tests/browser looks at it in a real browser."""

import html
import ipaddress
import re

import httpx
import pytest
from doubles import Log, settings
from served import READ_TOKEN, TOKEN, served
from starlette.applications import Starlette
from starlette.routing import Mount

from reactor.migrations import revisions
from reactor.operations.tokens import TokenFilter
from reactor.telemetry import Telemetry
from reactor.web import Site, mounted
from reactor.web.headers import picture_source, policy
from reactor.web.reads import MOST_FILTERS, Reads
from reactor.web.render import is_link, literal_part, short

pytestmark = pytest.mark.anyio

SCRIPT = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>"
PAGE = {"accept": "text/html,application/xhtml+xml"}


@pytest.fixture
async def paused(ask):
    await ask("pause", "a test", None)


async def test_every_answer_carries_the_headers(database, paused):
    async with served(database, http_token=TOKEN) as (client, _):
        client.headers["authorization"] = f"Bearer {TOKEN}"
        answers = [await client.get(path) for path in ("/", "/api/status", "/nowhere", "/livez", "/tokens/1")]
        answers.append(await client.get("/", headers={"authorization": "", **PAGE}))

    for answer in answers:
        assert answer.headers["content-security-policy"] == policy("http://127.0.0.1:1")
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
    told = answers[0].headers["content-security-policy"]
    for needed in (
        "default-src 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "form-action 'self'",
    ):
        assert needed in told
    assert "unsafe" not in told


@pytest.mark.parametrize(
    ("base_url", "source"),
    [
        (None, None),
        ("https://api.replicate.com", None),
        ("http://127.0.0.1:8788", "http://127.0.0.1:8788"),
        ("http://[::1]:8788/x", "http://[::1]:8788"),
        ("http://gateway.example", None),
    ],
)
def test_pictures_over_http_come_from_this_machine_alone(base_url, source):
    assert picture_source(base_url) == source


async def test_nothing_that_others_wrote_is_more_than_text(database, ask, make_token, connection):
    await ask("pause", SCRIPT, None)
    for column in (
        {"status": "failed", "generation_error": SCRIPT},
        {"status": "uploading", "image_url": f"https://x/{SCRIPT}"},
    ):
        await make_token(prompt=SCRIPT, **column)
    await connection.execute("UPDATE tokens_s0 SET generation_prediction_id = $1", SCRIPT[:200])
    query = {"matching": "script", "since": "1h", "status": "failed", "done": SCRIPT, "count": SCRIPT, "range": SCRIPT}
    async with served(database) as (client, _):
        pages = [
            await client.get("/"),
            await client.get("/", params=query),
            await client.get("/", params={"matching": SCRIPT}),
            await client.get("/retry"),
            await client.get("/tokens/1"),
            await client.get("/tokens/2"),
            await client.get("/", params={"status": SCRIPT}),
            await client.get(f"/tokens/{SCRIPT.replace('/', '%2F')}"),
        ]

    assert [page.status_code for page in pages] == [200] * 6 + [400, 404]
    for page in pages:
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        assert len(re.findall(r"<script", page.text)) <= 1  # ours
        assert not re.search(r"<[^>]+\son\w+=", re.sub(r'"[^"]*"', '""', page.text))


SECRET = "the password=hidden-from-everybody is bad"


async def test_a_secret_in_an_error_is_not_shown(database, ask, connection, make_token):
    await ask("pause", SECRET, None)
    await make_token(status="failed", generation_error=SECRET)
    entry = "INSERT INTO reactor.attempts (tokens_table, key, epoch, outcome, error, ended_at)"
    await connection.execute(f"{entry} SELECT 'public.tokens_s0', id, 1, 'failed', '{SECRET}', now() FROM tokens_s0")
    async with served(database) as (client, _):
        pages = [await client.get(path) for path in ("/", "/tokens/1", "/retry")]
        paths = ("status", "tokens", "tokens/1", "attempts")
        answers = [await client.get(f"/api/{path}") for path in paths]
        counted = await client.post("/api/tokens/retry", json={"dry_run": True})

    told = [page.text for page in (*pages, *answers, counted)]
    assert [text for text in told if "the password=[redacted] is bad" not in text] == []
    assert not any("hidden-from" in text for text in told)
    assert len(re.findall(r'href="/\?status=failed&amp;matching=the\+password%3D&', pages[0].text)) == 2


PICTURES = {
    "https://replicate.delivery/x/out-0.webp": True,
    "http://127.0.0.1:1/files/x.webp": True,
    "http://127.0.0.1:2/files/x.webp": False,
    "http://evil.example/x.webp": False,
    "javascript:alert(1)": False,
    "data:text/html,x": False,
    "//evil.example/x": False,
    "https://user@evil.example/x": False,
    "HTTPS:evil": False,
    "ipfs://bafy": False,
}


async def test_only_pictures_over_https_or_of_the_sandbox_are_shown(database, paused, make_token):
    made = {url: await make_token(status="ready", image_url=url) for url in PICTURES}
    async with served(database) as (client, _):
        page = (await client.get("/")).text
        stories = {url: (await client.get(f"/tokens/{token_id}")).text for url, token_id in made.items()}

    assert page.count("<img") == sum(PICTURES.values())
    for url, is_shown in PICTURES.items():
        assert (f'src="{url}"' in page) == is_shown, url
        assert (f'href="{url}"' in stories[url]) == is_shown, url
        assert url.replace("user", "[redacted]") in stories[url], url


async def test_an_upload_counts_down_to_the_providers_hour(database, paused, make_token, connection):
    for minutes in (19, 61):
        token_id = await make_token(status="uploading", image_url="https://x/y")
        await connection.execute(
            "UPDATE tokens_s0 SET generation_seeded_at = now() - make_interval(mins => $1) WHERE token_id = $2",
            minutes,
            token_id,
        )
    async with served(database) as (client, _):
        page = (await client.get("/")).text

    assert re.search(r'expires in <span class="ticks" data-seconds="24\d\d\.\d" data-counts="down">41 min<', page)
    assert "left the provider; nobody took it" in page
    assert page.count("<img") == 1


@pytest.mark.parametrize(("token", "may_act"), [(TOKEN, True), (READ_TOKEN, False)])
async def test_whoever_may_act_is_led_from_the_sentence_to_the_retry(database, make_token, token, may_act):
    await make_token(status="failed", generation_error="no")
    async with served(database, http_token=TOKEN, http_read_token=READ_TOKEN) as (client, log):
        await log.wait("watch.taken")  # the listener is proven by then; else the sentence says that it hears nothing
        page = (await client.get("/", headers={"authorization": f"Bearer {token}"})).text

    todo = re.search(r'<p class="todo">(.*)</p>', page)[1]
    assert "<code>reactor retry --failed</code>" in todo
    assert ('<a href="/retry">Retry the failed tokens …</a>' in todo) is may_act


@pytest.mark.parametrize(
    ("query", "heading", "causes"),
    [
        ("", "in the last hour", ["new"]),
        ("?range=24h", "in the last day", ["new", "old"]),
        ("?range=24h&since=10m", "in the last 10 minutes", ["new"]),
        ("?since=3d", "in the last 3d", ["new", "old", "very old"]),
        ("?matching=old", "in the last hour", []),
    ],
)
async def test_causes_are_of_the_time_that_the_heading_says(
    database, paused, make_token, connection, query, heading, causes
):
    for error, ago in (("new", 0), ("old", 3), ("very old", 48)):
        token_id = await make_token(status="failed", generation_error=error)
        moved = "UPDATE tokens_s0 SET mint_timestamp = now() - make_interval(hours => $2) WHERE token_id = $1"
        await connection.execute(moved, token_id, ago)
    async with served(database) as (client, _):
        page = (await client.get(f"/{query}")).text

    panel = page[page.index('id="causes"') :].partition("</section>")[0]
    assert f"<h2>Why tokens failed {heading}</h2>" in panel
    assert sorted(re.findall(r"</b> <span>([^<]+)</span>", panel)) == causes
    assert ("None failed that matches." in panel) is (causes == [])


async def test_causes_are_grouped_once_for_all_who_look_with_the_same_filter(database, paused, make_token):
    await make_token(status="failed", generation_error="boom")
    reads = Reads(settings(database))
    try:
        first = await reads.causes(TokenFilter("failed"))
        assert await reads.causes(TokenFilter("failed")) is first
        other = [await reads.causes(TokenFilter("failed", f"bo{number}")) for number in range(MOST_FILTERS)]
        again = await reads.causes(TokenFilter("failed"))
    finally:
        await reads.aclose()

    assert [each.cause for each in first.causes] == ["boom"]
    assert all(each.causes == [] for each in other)
    assert again is not first  # few are kept


async def test_older_tokens_are_a_page_away_and_every_filter_stays_in_the_url(database, paused, make_token):
    for number in range(60):
        await make_token(status="failed", generation_error=f"boom {number}")
    async with served(database) as (client, _):
        first = (await client.get("/?status=failed&matching=boom&since=1h")).text
        (older,) = re.findall(r'href="(/\?[^"]*after=[^"]*)"', first)
        second = (await client.get(html.unescape(older))).text

    assert first.count('<li class="card failed"') == 48
    assert second.count('<li class="card failed"') == 12
    assert all(each in older for each in ("status=failed", "matching=boom", "since=1h"))


@pytest.mark.parametrize("key", ["0xA/1", "a/retry", "/", "50%2F/ü?#"])
async def test_a_key_with_slashes_has_its_pages(empty_database, connect_to, key):
    connection = await connect_to(empty_database)
    await connection.execute("CREATE TABLE tokens_s0 (key text PRIMARY KEY, status text NOT NULL, prompt text)")
    await revisions.upgrade(empty_database)
    await connection.execute("INSERT INTO tokens_s0 VALUES ($1, 'failed', 'a fox')", key)
    async with served(empty_database) as (client, log):
        home = (await client.get("/")).text
        (link,) = set(re.findall(r'class="frame" href="([^"]+)"', home))
        (action,) = re.findall(r'action="(/tokens/[^"]+/retry)"', home)
        page, told = await client.get(link), (await client.get(f"/api{link}")).json()
        retried = await client.post(action)
        back = await client.get(retried.headers["location"])

    assert (page.status_code, told["token_id"], told["status"]) == (200, key, "failed")
    assert (retried.status_code, back.status_code) == (303, 200)
    assert [acted["token_ids"] for acted in log.of("http.acted")] == [[key]]


async def test_it_teaches_where_nothing_is_there(database):
    async with served(database) as (client, _):
        empty = (await client.get("/")).text
        none = (await client.get("/?matching=nothing-like-it")).text

    assert "Nothing has been minted yet" in empty
    assert "reactor mint" in empty
    assert "Nothing has been minted yet" in none


async def test_it_works_below_any_path_and_names_the_user_of_the_host(database, paused, make_token):
    await make_token(status="failed", generation_error="no")
    log = Log()
    site = Site(settings(database), Telemetry(log))
    app = Starlette(routes=[Mount("/a/b", mounted(site))])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://host.example") as client:
        page = (await client.get("/a/b/")).text
        links = [
            link for link in re.findall(r'(?:href|src|action|data-events)="([^"]*)"', page) if not link.startswith("#")
        ]
        told = [
            await client.get(html.unescape(link))
            for link in links
            if "/static/" in link or ("/tokens/" in link and "/retry" not in link)
        ]
        retried = await client.post("/a/b/tokens/1/retry", headers={"origin": "http://host.example"})
        document = (await client.get("/a/b/api/openapi.json")).json()
        crossed = await client.post("/a/b/resume", headers={"sec-fetch-site": "cross-site"})
        unknown = await client.get("/a/b/api/nothing")
    await site.aclose()

    assert links
    assert all(link.startswith("/a/b/") for link in links)
    assert {answer.status_code for answer in told} == {200}
    assert (retried.status_code, retried.headers["location"]) == (303, "/a/b/tokens/1?done=retried&count=1")
    assert document["servers"] == [{"url": "/a/b"}]
    assert crossed.status_code == 403
    assert unknown.json() == {"error": "there is nothing here"}
    assert log.of("http.acted")[0]["who"] == "a user of the host application from 127.0.0.1"


@pytest.mark.parametrize("target", ["//evil.example", "/\\evil.example", "x%0d%0aset-cookie: a=b", "..%2f..%2fevil"])
async def test_no_redirect_leaves_the_page(database, paused, target):
    async with served(database) as (client, _):
        answers = [
            await client.post(f"/tokens/{target}/retry"),
            await client.post("/tokens/1/retry", data={"back": target, "matching": target}),
            await client.post("/resume", data={"status": target}),
        ]

    for answer in answers:
        assert answer.status_code in {303, 404, 405}
        assert answer.headers.get("location", "/x").startswith(("/x", "/tokens/", "/?"))
        assert "set-cookie" not in answer.headers


async def test_a_browser_signs_in_and_the_cookie_does_what_its_token_may(database, paused):
    async with served(database, http_token=TOKEN, http_read_token=READ_TOKEN) as (client, log):
        form = await client.get("/", headers=PAGE)
        wrong = await client.post("/sign-in", data={"token": "wrong"})
        signed = await client.post("/sign-in", data={"token": f" {READ_TOKEN}\n"})
        looked, refused = await client.get("/"), await client.post("/resume")
        left = await client.post("/sign-out")
        after = await client.get("/", headers=PAGE)
        await client.post("/sign-in", data={"token": TOKEN})
        acted = await client.post("/resume")

    assert (form.status_code, form.headers["www-authenticate"]) == (401, "Bearer")
    assert 'type="password"' in form.text
    assert wrong.status_code == 403
    assert "set-cookie" not in wrong.headers
    assert signed.status_code == left.status_code == acted.status_code == 303
    told = signed.headers["set-cookie"].lower()
    assert all(part in told for part in ("httponly", "samesite=strict", "path=/", "max-age=43200"))
    assert (looked.status_code, refused.status_code, after.status_code) == (200, 403, 401)
    assert [each["action"] for each in log.of("http.acted")] == ["resume"]
    assert TOKEN not in log.text


@pytest.mark.parametrize(
    ("headers", "asks", "secure"),
    [
        ({"host": "reactor.example"}, False, None),
        ({"host": "reactor.example", "x-forwarded-proto": "https"}, True, True),
        ({"host": "127.0.0.1"}, True, False),
    ],
)
async def test_off_loopback_a_token_is_typed_over_https_alone(database, paused, headers, asks, secure):
    anywhere = str(ipaddress.IPv4Address(0))
    async with served(database, http_host=anywhere, http_token=TOKEN) as (client, _):
        form = await client.get("/", headers=PAGE | headers)
        signed = await client.post("/sign-in", data={"token": TOKEN}, headers=headers)

    assert ('type="password"' in form.text, "needs https" in form.text) == (asks, not asks)
    assert signed.status_code == (303 if asks else 403)
    told = signed.headers.get("set-cookie", "")
    assert ("__Host-" in told, "Secure" in told) == ((secure, secure) if asks else (False, False))


async def test_files_are_kept_by_their_content_and_no_other_file_is_served(database):
    async with served(database, http_token=TOKEN) as (client, _):
        form = (await client.get("/", headers=PAGE)).text
        (style,) = re.findall(r'href="(/static/page\.[0-9a-f]{12}\.css)"', form)
        kept = await client.get(style)
        others = [await client.get(f"/static/{name}") for name in ("page.css", "..%2fapp.py", "%2e%2e/app.py", "x")]

    assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert kept.headers["content-type"] == "text/css; charset=utf-8"
    assert {other.status_code for other in others} <= {401, 404}


def test_a_cause_is_searched_by_what_all_of_its_errors_have():
    assert literal_part("# … longest part here #") == "longest part here"
    assert [short(each) for each in (0.0041, 0.9, 1.25, 75, 600)] == ["4 ms", "900 ms", "1.2 s", "75 s", "10 min"]
    assert not is_link("https://[bad")
