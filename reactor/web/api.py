"""The same as the page, as JSON. What it takes and answers is described in openapi.py."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from reactor.operations.history import EntryPage, of_token, since
from reactor.operations.timeline import story_json
from reactor.operations.tokens import LONGEST_TEXT, FilterError, TokenFilter, list_tokens
from reactor.tokens import known_as
from reactor.web.actions import LONGEST_ID, MOST_IDS
from reactor.web.bodies import object_of
from reactor.web.filters import after_of, filter_of, limit_of, seconds, text
from reactor.web.openapi import ATTEMPTS, ENDPOINTS, FILTERS, OUTCOMES, document
from reactor.web.problems import answering_errors

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from starlette.requests import Request

    from reactor.operations.history import Entry
    from reactor.operations.tokens import Causes, Count, Token
    from reactor.text.redaction import Redactor
    from reactor.web.site import Site

# The names of texts in an answer that errors, reasons and the provider's words are a part of.
_FOREIGN = {"cause", "error", "reason", "sentence", "summary", "words"}
_LONGEST = 8000  # characters of such a text


class Api:
    """The endpoints of openapi.py, by their names."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._reads = site.reads
        self._actions = site.actions
        self.routes = [Route("/api/openapi.json", self._document)]
        for endpoint in sorted(ENDPOINTS, key=lambda each: "{" in each.path):
            handler = answering_errors(getattr(self, endpoint.name), self._reads.redact, refusal)
            path = endpoint.path.replace("{token_id}", "{token_id:path}")  # a text may have slashes
            self.routes.append(Route(path, handler, methods=[endpoint.method]))

    async def _document(self, request: Request) -> Response:
        return answer(document(request.scope.get("root_path", "")))

    async def status(self, _request: Request) -> Response:
        return self._told((await self._reads.within(self._reads.overview)).as_json() | self._site.here())

    async def tokens(self, request: Request) -> Response:
        _only(request.query_params, FILTERS.keys() | {"after", "limit"})
        wanted, given = filter_of(request.query_params), request.query_params
        after, limit = after_of(given), limit_of(given)

        async def work() -> Any:
            table = await self._reads.table()
            return await list_tokens(self._reads.session, table, wanted, after=after, limit=limit)

        page = await self._reads.within(work)
        return self._told({"tokens": [token_json(token) for token in page.tokens], "next": page.next})

    async def token(self, request: Request) -> Response:
        story = await self._site.story(request.path_params["token_id"])
        if story is None:
            raise HTTPException(404, "there is no such token")
        return self._told(story_json(story))

    async def attempts(self, request: Request) -> Response:
        given = request.query_params
        _only(given, ATTEMPTS)
        outcome, since_seconds, limit = text(given, "outcome"), seconds(given, "since"), limit_of(given)
        if outcome is not None and outcome not in OUTCOMES:
            raise FilterError(f"no such outcome: it is one of {', '.join(OUTCOMES)}")
        token_id, before = text(given, "token_id"), _entry_of(after_of(given))
        if token_id is not None and (outcome or since_seconds):
            raise FilterError("token_id goes with no other filter")
        if token_id is not None:
            story = await self._site.story(token_id)
            if story is None:
                raise HTTPException(404, "there is no such token")
            key = story.row_key

        async def work() -> EntryPage:
            table, session = await self._reads.table(), self._reads.session
            if token_id is not None:
                entries = await of_token(session, table, key, rows=limit, before=before)
                return EntryPage(entries, entries[-1].id if len(entries) == limit else None)
            outcomes = None if outcome is None else [outcome]
            return await since(session, table, seconds=since_seconds, outcomes=outcomes, rows=limit, before=before)

        found = await self._reads.within(work)
        after = None if found.next is None else str(found.next)
        return self._told({"attempts": [entry_json(entry) for entry in found.entries], "next": after})

    async def retry(self, request: Request) -> Response:
        given, who = await object_of(request), request.state.who
        dry_run = given.get("dry_run", False)
        if not isinstance(dry_run, bool):
            raise FilterError("dry_run is true or false")
        if "token_ids" in given:
            _only(given, {"token_ids", "dry_run"})
            ids = _ids(given["token_ids"])
            if dry_run:
                return self._counted(*await self._reads.within(lambda: self._actions.dry_run_of(ids)))
            retried = await self._reads.within(lambda: self._actions.retry(who, ids))
            return answer({"retried": sorted(retried), "not_failed": [each for each in ids if each not in retried]})
        _only(given, FILTERS.keys() | {"dry_run"})
        wanted = filter_of(given)
        if wanted == TokenFilter() and not dry_run:
            raise FilterError('give "token_ids", or at least one of "status": "failed", "matching" and "since"')
        if wanted.status not in {None, "failed"}:
            raise FilterError('only tokens that failed can be retried: leave "status" out, or give "failed"')
        wanted = replace(wanted, status="failed")
        if dry_run:
            return self._counted(*await self._reads.within(lambda: self._actions.dry_run(wanted)))
        return await self._retry_all(who, wanted)

    async def _retry_all(self, who: str, wanted: TokenFilter) -> Response:
        retried = await self._actions.retry_all(who, wanted)
        return answer({"retried": retried.tokens, "locked": retried.locked, "done": retried.done})

    async def pause(self, request: Request) -> Response:
        given = await object_of(request)
        _only(given, {"for", "reason"})
        until, reason = seconds(given, "for"), text(given, "reason") or ""
        if len(reason) > LONGEST_TEXT:
            raise FilterError(f"a reason has at most {LONGEST_TEXT:,} characters")
        paused = await self._reads.within(lambda: self._actions.pause(request.state.who, until, reason))
        return answer({"paused": True, "reason": paused.reason})

    async def resume(self, request: Request) -> Response:
        _only(await object_of(request), ())
        resumed = await self._reads.within(lambda: self._actions.resume(request.state.who))
        stays_closed = resumed and resumed.stays_closed
        return answer({"resumed": resumed is not None and stays_closed is None, "stays_closed_until": stays_closed})

    def _counted(self, number: Count, causes: Causes) -> Response:
        listed = [{"cause": each.cause, "tokens": each.tokens, "example": each.example} for each in causes.causes]
        return self._told({"dry_run": True, "matching": number.tokens, "exact": number.exact, "causes": listed[:50]})

    def _told(self, value: Any) -> Response:
        """An answer that holds texts which others wrote."""
        return answer(_redacted(value, self._reads.redact))


def answer(value: Any, status: int = 200) -> Response:
    """A JSON answer. Numbers beyond 2^53 must be texts already. Times are as in the commands: in UTC, with +00:00."""
    body = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_NAIVE_UTC)
    return Response(body, status, media_type="application/json")


def refusal(_request: Request, status: int, sentence: str) -> Response:
    """Why a request was not served."""
    return answer({"error": sentence}, status)


def _redacted(value: Any, redact: Redactor) -> Any:
    """The value without secrets in those of its texts that others may have written, as the page shows them."""
    match value:
        case dict():
            return {
                name: redact(each, longest=_LONGEST)
                if name in _FOREIGN and isinstance(each, str)
                else _redacted(each, redact)
                for name, each in value.items()
            }
        case list():
            return [_redacted(each, redact) for each in value]
        case _:
            return value


def token_json(token: Token) -> dict[str, Any]:
    """A token as it is listed."""
    names = (
        "token_id", "key", "status", "minted_at", "due_at", "image_url", "attempts", "error", "prediction_id",
        "censored", "rescues",
    )  # fmt: skip
    return {name: getattr(token, name) for name in names}


def entry_json(entry: Entry) -> dict[str, Any]:
    """An entry of the history. Numbers that a JavaScript program would not read exactly are texts."""
    given = entry.as_json
    return given | {name: known_as(given[name], "") for name in ("id", "epoch", "worker") if given[name] is not None}


def _entry_of(after: str | None) -> int | None:
    if after is None:
        return None
    if not (after.isascii() and after.isdecimal() and len(after) <= 18):
        raise FilterError("that is no place in the list: use the `next` of a page")
    return int(after)


def _only(given: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise FilterError for an unknown name: a filter with a typo would match everything."""
    if unknown := [name for name in given if name not in known]:
        raise FilterError(f"unknown: {unknown[0][:60]!r}; known: {', '.join(sorted(known)) or 'nothing'}")


def _ids(given: Any) -> list[str]:
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_IDS:
        raise FilterError(f"token_ids is a list of 1 to {MOST_IDS:,} ids")
    given = [_whole(each) for each in given]
    for each in given:
        if isinstance(each, bool) or not isinstance(each, int | str) or not 1 <= len(str(each)) <= LONGEST_ID:
            raise FilterError(f"a token id is a number or a text of at most {LONGEST_ID} characters")
    return list(dict.fromkeys(text({"a token id": str(each)}, "a token id") or "" for each in given))


def _whole(given: Any) -> Any:
    """The number 7 for 7.0, which are one number in JSON. A larger one may have been rounded, and stays as it is."""
    return int(given) if isinstance(given, float) and given.is_integer() and abs(given) < 2**53 else given
