"""The page: its HTML works without JavaScript, and `page.js` keeps it up to date by asking for the same HTML again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from reactor.operations.history import TOO_LONG
from reactor.operations.story import captions_of
from reactor.operations.timeline import bill, timeline
from reactor.operations.tokens import STATUSES, FilterError, TokenFilter, list_tokens
from reactor.web.bodies import form_of
from reactor.web.cards import card_of, shortened
from reactor.web.charts import charts_of, strip_of
from reactor.web.filters import after_of, filter_of, seconds, text
from reactor.web.problems import answering_errors
from reactor.web.render import html, query, segment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from reactor.operations.overview import Overview
    from reactor.operations.pulse import Pulse
    from reactor.operations.recent_errors import RecentErrors
    from reactor.web.site import Site

SHOWN = 48  # tokens of the gallery; it divides by 2, 3, 4, 6 and 8 columns
LOOK = 1_000  # tokens that one statement of the gallery looks at
CAUSES = 6
REFRESHES = ("5", "30")  # seconds, for a browser without JavaScript
RANGES = {1: "1h", 24: "24h"}  # hours of the charts, and as a filter
_FILTERS = ("status", "matching", "since")
_DONE = ("retried", "conflict", "paused", "spent", "resumed", "budget", "was_open")


class Pages:
    """The routes of the page."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._reads = site.reads
        self._actions = site.actions
        pages = [
            ("GET", "/", self.home),
            ("GET", "/retry", self.ask_to_retry),
            ("POST", "/retry", self.retry_all),
            ("GET", "/tokens/{token_id:path}", self.token),  # a text may have slashes
            ("POST", "/tokens/{token_id:path}/retry", self.retry_one),
            ("POST", "/pause", self.pause),
            ("POST", "/resume", self.resume),
        ]
        self.routes = [
            Route(path, answering_errors(handler, site.reads.redact, self._refusal), methods=[method])
            for method, path, handler in pages
        ]

    async def home(self, request: Request) -> Response:
        """The sentence, the gallery, and what goes on beside it."""
        given = request.query_params
        wanted, after = filter_of(given), after_of(given)
        hours = 24 if given.get("range") == "24h" else 1
        shown = await self._reads.within(lambda: self._gallery(wanted, after, hours))
        headers = {"refresh": given["refresh"]} if given.get("refresh") in REFRESHES else {}
        return html(request, "home.html", headers=headers, **self._shared(request), **shown)

    async def _gallery(self, wanted: TokenFilter, after: str | None, hours: int) -> dict[str, Any]:
        seen, session, table = await self._reads.overview(), self._reads.session, await self._reads.table()
        page = await list_tokens(session, table, wanted, after=after, limit=SHOWN, look=LOOK)
        captions = await captions_of(session, table, [token.key for token in page.tokens])
        (pulse, errors), causes = await self._ended(seen, hours), None
        if seen.tokens.get("failed"):
            since = wanted.since_seconds or hours * 3600.0
            causes = await self._reads.causes(TokenFilter("failed", wanted.matching, since))
        return {
            "overview": seen,
            "errors": errors,
            "pulse": pulse,
            "charts": None if isinstance(pulse, str) else charts_of(pulse),
            "cards": [
                card_of(each, captions[each.key], self._site.pictures) for each in page.tokens if each.key in captions
            ],
            "next": page.next,
            "causes": causes.causes[:CAUSES] if causes else [],
            "causes_since": None if causes is None else RANGES[hours],
            "most_causes": CAUSES,
            "all_causes": causes is None or causes.complete,
        }

    async def _ended(self, seen: Overview, hours: int) -> tuple[Pulse | str, RecentErrors | str | None]:
        """The pulse and the errors. After a sum that took too long no other is begun, so that the page is in time."""
        if seen.today_unknown == TOO_LONG:
            return TOO_LONG, TOO_LONG
        pulse = await self._reads.pulses[hours]()
        return pulse, TOO_LONG if pulse == TOO_LONG else await self._reads.errors[hours]()

    async def token(self, request: Request) -> Response:
        """The story of one token."""
        story = await self._site.story(request.path_params["token_id"])
        if story is None:
            return self._refusal(request, 404, "There is no such token.")
        card = card_of(story, story.caption, self._site.pictures)
        told: dict[str, Any] = {"card": card, "bill": bill(story), "timeline": timeline(story)}
        return html(request, "token.html", story=story, **told, **self._shared(request))

    async def retry_one(self, request: Request) -> Response:
        """Set one token back; say so if somebody else did it before."""
        form, token_id = _plain(await form_of(request)), request.path_params["token_id"]
        retried = await self._reads.within(lambda: self._actions.retry(request.state.who, [token_id[:100]]))
        done = {"done": "retried", "count": 1} if retried else {"done": "conflict"}
        back = "/" if form.get("back") == "gallery" else f"/tokens/{segment(token_id)}"
        return _back(request, back, _kept(form) | done)

    async def ask_to_retry(self, request: Request) -> Response:
        """Show what a retry would do, and ask."""
        wanted = _failed(request.query_params)
        number, causes = await self._reads.within(lambda: self._actions.dry_run(wanted))
        shown: dict[str, Any] = {"number": number, "causes": causes.causes, "all_causes": causes.complete}
        return html(request, "retry.html", **shown, **self._shared(request))

    async def retry_all(self, request: Request) -> Response:
        """Set back all that match, as many as a request may take."""
        form = _plain(await form_of(request))
        retried = await self._actions.retry_all(request.state.who, _failed(form))
        done = {"done": "retried", "count": retried.tokens, "locked": retried.locked or None}
        if retried.done:
            return _back(request, "/", done)
        return _back(request, "/retry", _kept(form) | done | {"status": None})

    async def pause(self, request: Request) -> Response:
        form = _plain(await form_of(request))
        until, reason = seconds(form, "for"), text(form, "reason") or ""
        paused = await self._reads.within(lambda: self._actions.pause(request.state.who, until, reason[:1000]))
        return _back(request, "/", _kept(form) | {"done": "spent" if paused.stays_closed else "paused"})

    async def resume(self, request: Request) -> Response:
        form = _plain(await form_of(request))
        resumed = await self._reads.within(lambda: self._actions.resume(request.state.who))
        opened = "budget" if resumed and resumed.stays_closed else "resumed"
        return _back(request, "/", _kept(form) | {"done": opened if resumed else "was_open"})

    def _shared(self, request: Request) -> dict[str, Any]:
        """What every page shows."""
        given = request.query_params
        return {
            "filters": {name: given.get(name, "") for name in _FILTERS},
            "range": given.get("range", ""),
            "refresh": given.get("refresh", ""),
            "done": given.get("done") if given.get("done") in _DONE else None,
            "count": _number(given.get("count")),
            "locked": _number(given.get("locked")),
            "may_act": getattr(request.state, "access", "act") == "act",
            "signed_in": self._site.can_sign_out and getattr(request.state, "trusted", False),
            "here": self._site.here().get("worker"),
            "poll_interval": self._site.poll_interval,
            "model": self._site.model,
            "statuses": STATUSES,
            "shortened": shortened,
            "strip": strip_of,
            "redact": self._reads.redact,
        }

    def _refusal(self, request: Request, status: int, sentence: str) -> Response:
        sentence = sentence[:1].upper() + sentence[1:]
        return html(request, "problem.html", status=status, sentence=sentence, **self._shared(request))


def _failed(given: Mapping[str, Any]) -> TokenFilter:
    wanted = filter_of(given)
    if wanted.status not in {None, "failed"}:
        raise FilterError("only tokens that failed can be retried")
    return TokenFilter("failed", wanted.matching, wanted.since_seconds)


def _plain(form: Mapping[str, list[str]]) -> dict[str, str]:
    """The first value of each field."""
    return {name: values[0] for name, values in form.items()}


def _kept(form: Mapping[str, str]) -> dict[str, Any]:
    """The filter that the reader had, so that it stays in the URL."""
    return {name: form.get(name) for name in _FILTERS}


def _back(request: Request, path: str, values: Mapping[str, Any]) -> Response:
    """Lead back to a page of ours: 303, so that a reload sends nothing again."""
    return RedirectResponse(f"{request.scope.get('root_path', '')}{path}{query(values)}", 303)


def _number(value: str | None) -> int:
    return int(value) if value and value.isascii() and value.isdecimal() and len(value) <= 12 else 0
