"""A proxy that the environment names: which requests use it, and what happens if it cannot be used."""

import base64

import pytest
from wire import Wire, http, quick_tls  # noqa: F401  (a fixture)

from reactor.errors import TransientError
from reactor.providers import Prediction
from reactor.providers.proxies import proxy_of
from reactor.providers.replicate import ReplicateProvider

pytestmark = pytest.mark.anyio

API = "https://api.replicate.com"
NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """Remove the machine's own proxy variables."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, API, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, API, "http://proxy:3128"),
        ({"https_proxy": "http://proxy:3128"}, API, "http://proxy:3128"),
        ({"HTTPS_PROXY": "proxy:3128"}, API, "http://proxy:3128"),
        ({"ALL_PROXY": "http://proxy:3128"}, API, "http://proxy:3128"),
        ({"HTTP_PROXY": "http://proxy:3128"}, API, None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "example.com, .replicate.com"}, API, None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "*"}, API, None),
        ({"HTTP_PROXY": "http://proxy:3128"}, "http://127.0.0.1:8000", None),
        ({"HTTP_PROXY": "http://proxy:3128"}, "http://localhost", None),
        ({"HTTP_PROXY": "http://proxy:3128"}, "http://[::1]:8000", None),
    ],
)
def test_the_environment_says_who_goes_through_a_proxy(monkeypatch, environment, url, proxy):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert proxy_of(url) == proxy


@pytest.mark.parametrize(
    "proxy", ["socks5://u:Secret9@proxy:1080", "http://", "http://u:Secret9@proxy:port", "http://["]
)
def test_a_proxy_that_cannot_be_used_is_refused_without_its_password(monkeypatch, proxy):
    monkeypatch.setenv("HTTPS_PROXY", proxy)

    with pytest.raises(ValueError, match="HTTPS_PROXY: must be http://host:port or https://host:port") as refused:
        ReplicateProvider("r8_made_up", base_url=API)

    assert "Secret9" not in str(refused.value)


async def test_a_create_goes_through_the_proxy(monkeypatch):
    proxy = Wire(http({"id": "p1", "status": "starting"}, 201))
    async with proxy.serve() as url:
        monkeypatch.setenv("HTTP_PROXY", url.replace("http://", "http://user:pass@"))
        provider = ReplicateProvider("r8_made_up", base_url="http://gateway.invalid")
        bought = await provider.create("a fox", 1)
        await provider.aclose()

    head = proxy.requests[0][0]
    assert bought == Prediction("p1")
    assert head.startswith("POST http://gateway.invalid/v1/models/black-forest-labs/flux-schnell/predictions HTTP/1.1")
    assert base64.b64encode(b"user:pass").decode() in head


@pytest.mark.parametrize(
    ("status", "said"), [(407, "the proxy answered HTTP 407"), (503, "the proxy answered HTTP 503")]
)
async def test_what_a_proxy_does_not_let_through_was_never_sent(monkeypatch, status, said):
    proxy = Wire(http(b"", status))
    async with proxy.serve() as url:
        monkeypatch.setenv("HTTPS_PROXY", url)
        provider = ReplicateProvider("r8_made_up", base_url="https://api.replicate.invalid")
        with pytest.raises(TransientError) as refused:
            await provider.create("a fox", 1)
        await provider.aclose()

    assert (str(refused.value), refused.value.purchase_over) == (f"Cannot reach Replicate: {said}", True)
    assert proxy.requests[0][0].startswith("CONNECT api.replicate.invalid:443 HTTP/1.1\r\n")
    assert "r8_made_up" not in proxy.requests[0][0]


async def test_a_proxy_that_is_not_there_means_never_sent(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    provider = ReplicateProvider("r8_made_up", base_url="https://api.replicate.invalid")
    with pytest.raises(TransientError) as refused:
        await provider.create("a fox", 1)
    await provider.aclose()

    assert refused.value.purchase_over
