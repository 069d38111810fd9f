"""The proxy that the environment names for an origin: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY."""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from reactor.hosts import is_loopback


def proxy_of(base_url: str) -> str | None:
    """The proxy's URL; None if the environment names none, or if the origin is this machine.

    Raises ValueError. Its message leaves out the URL, because that may contain a password.
    """
    parts = urlsplit(base_url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or is_loopback(parts.hostname or "") or proxy_bypass(parts.netloc):
        return None
    try:
        chosen = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        usable = chosen.scheme in {"http", "https"} and bool(chosen.hostname) and chosen.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{parts.scheme.upper()}_PROXY: must be http://host:port or https://host:port")
    return chosen.geturl()
