"""Pictures: the same for the same prompt and seed, in the requested size, and shown on a page."""

import io

import anyio
import pytest
from PIL import Image
from test_sandbox import ask, buy

from reactor.sandbox import Fault, Sandbox, Timing
from reactor.sandbox.brushes import Dice
from reactor.sandbox.gallery import SHOWN
from reactor.sandbox.inputs import RATIOS
from reactor.sandbox.pictures import FAMILIES, PALETTES, render

pytestmark = pytest.mark.anyio
SMALL = 256, 256


def test_the_same_prompt_and_seed_give_the_same_picture():
    first, same = (render("a fox", 7, SMALL, "PNG") for _ in range(2))

    assert first == same
    assert first != render("a fox", 8, SMALL, "PNG")
    assert first != render("a hare", 7, SMALL, "PNG")


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.__name__)
@pytest.mark.parametrize("size", [(512, 512), (640, 300), (300, 640)])
def test_every_family_fills_the_picture(family, size):
    picture = family(size, next(iter(PALETTES.values())), Dice(3))

    assert picture.size == size
    assert max(high - low for low, high in picture.getextrema()) > 60
    corners = [(0, 0), (size[0] - 1, 0), (0, size[1] - 1), (size[0] - 1, size[1] - 1)]
    assert all(picture.getpixel(corner) != (0, 0, 0) for corner in corners)


def test_the_words_choose_among_families():
    pictures = {render(prompt, 1, SMALL, "PNG") for prompt in ("a fox", "a boat", "a bauhaus poster", "two moons")}

    assert len(pictures) == 4


async def bought(sandbox, **model_input):
    body = (await buy(sandbox, **model_input)).json()
    return [await ask(sandbox, "GET", url, who=None) for url in body["output"]]


@pytest.mark.parametrize("ratio", RATIOS)
async def test_a_picture_has_the_size_of_its_aspect_ratio(ratio):
    sandbox = Sandbox(Timing.instant())

    (answer,) = await bought(sandbox, aspect_ratio=ratio, megapixels="0.25", seed=7)

    width, height = RATIOS[ratio]
    assert Image.open(io.BytesIO(answer.content)).size == (width // 2, height // 2)


async def test_a_picture_is_a_megapixel_and_the_same_for_another_purchase():
    sandbox = Sandbox(Timing.instant())

    (first,), (again,), (other,) = [await bought(sandbox, seed=seed) for seed in (7, 7, 8)]

    assert Image.open(io.BytesIO(first.content)).size == (1024, 1024)
    assert first.content == again.content != other.content


@pytest.mark.parametrize(("kind", "media"), [("webp", "image/webp"), ("jpg", "image/jpeg"), ("png", "image/png")])
async def test_a_picture_has_the_format_that_was_asked_for(kind, media):
    sandbox = Sandbox(Timing.instant())

    (answer,) = await bought(sandbox, output_format=kind, megapixels="0.25")

    assert answer.headers["content-type"] == media
    assert Image.MIME[Image.open(io.BytesIO(answer.content)).format] == media


async def test_several_outputs_are_different_pictures():
    sandbox = Sandbox(Timing.instant())

    pictures = await bought(sandbox, num_outputs=3, megapixels="0.25", seed=7)

    assert len({answer.content for answer in pictures}) == 3


async def test_without_a_seed_every_purchase_has_its_own():
    sandbox = Sandbox(Timing.instant())
    random_seeds = [(await buy(sandbox)) and sandbox.ledger[-1].used_seed for _ in range(4)]

    assert len(set(random_seeds)) > 1


@pytest.mark.parametrize("name", ["out-1.webp", "out-0.png", "out-0", "o", "out-x.webp"])
async def test_a_picture_that_was_not_bought_is_not_there(name):
    sandbox = Sandbox(Timing.instant())
    await buy(sandbox)

    assert (await ask(sandbox, "GET", f"/files/{sandbox.ledger[0].id}/{name}")).status_code == 404
    assert (await ask(sandbox, "GET", f"/files/nothing/{name}")).status_code == 404


async def test_delivery_can_fail():
    sandbox = Sandbox(Timing.instant())
    sandbox.fail(Fault("redirect", on="picture"))

    (answer,) = await bought(sandbox)

    assert (answer.status_code, answer.headers["location"]) == (302, "/elsewhere")


async def test_one_picture_is_painted_once_however_many_look():
    sandbox = Sandbox(Timing.instant())
    url = (await buy(sandbox)).json()["output"][0]

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(ask, sandbox, "GET", url)

    assert sandbox._gallery._render.cache_info().misses == 1


async def test_the_page_shows_the_latest_and_escapes_their_prompts():
    sandbox = Sandbox(Timing.instant())
    await buy(sandbox, "the first")
    for _ in range(SHOWN - 2):
        await buy(sandbox, "another")
    await buy(sandbox, '<script>alert("x")</script> & co')
    await buy(sandbox, "refused [sandbox: nsfw]")

    page = await ask(sandbox, "GET", "/", who=None)

    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; co" in page.text
    assert "<script" not in page.text
    assert "the first" not in page.text
    assert page.text.count("<img ") == SHOWN - 1
    assert page.text.index("failed") < page.text.index("script") < page.text.index("another")


async def test_an_empty_page_says_so():
    assert "Nothing yet." in (await ask(Sandbox(), "GET", "/", who=None)).text
