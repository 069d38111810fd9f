"""The server: it answers each token's creates and looks as the case says, and with good answers after that."""

import itertools
import json
from collections import deque

from wire import HANG_UP, Wire, http

from fuzz.cases import PACKED, RAW, packed, written

LISTING = {"results": [], "next": None}


class Provider(Wire):
    """Finds answers by the mark in the prompt. They are made before the case, so their memory does not count."""

    def __init__(self, secret):
        super().__init__()
        self.requests = deque(maxlen=64)  # of all connections: enough, each asks one at a time
        self._secret = secret
        self._numbers = itertools.count(1)
        self.begin({}, (), ())

    def begin(self, tokens, pages, accounts):
        """Prepare the answers of a case. `tokens`: mark → (prompt, Token)."""
        self._creates, self._looks, self._ids = {}, {}, {}
        for mark, (prompt, token) in tokens.items():
            good = f"p{next(self._numbers)}"
            self._ids[mark] = good
            self._creates[mark] = deque(self._made(reply, prompt, good) for reply in token.creates)
            self._looks[good] = deque(self._made(reply, prompt, good) for reply in token.looks)
        first = next(iter(tokens.values()), ("", None))[0]
        self._pages = deque(self._made(reply, first, "p0") for reply in pages)
        self._accounts = deque(self._made(reply, first, "p0") for reply in accounts)

    def _made(self, reply, prompt, good):
        headers = {"connection": "close"} if reply.cut else {}
        body = self._body(reply.body, prompt, good)
        if isinstance(reply.body, str) and reply.body in PACKED:
            headers["content-encoding"] = ", ".join(["gzip"] * PACKED[reply.body])
        answer = http(body, reply.status, **headers | reply.headers)
        return [(0, answer[: len(answer) // 2]), (0, HANG_UP)] if reply.cut else answer

    def _body(self, body, prompt, good):
        if isinstance(body, str) and body in RAW:
            return RAW[body]
        if isinstance(body, str) and body in PACKED:
            return packed(PACKED[body])

        def filled(value):
            match value:
                case str():
                    return written(value.replace("«id»", good), prompt, self._secret)
                case list():
                    return [filled(each) for each in value]
                case dict():
                    return {filled(name): filled(each) for name, each in value.items()}
                case _:
                    return value

        return json.dumps(filled(body)).encode()[:3_000_000]

    async def _answer(self, stream):
        head, body = self._last
        self.answers = [self._chosen(head.split()[1].partition("?")[0], body)]
        await super()._answer(stream)

    async def _request(self, stream):
        self._last = await super()._request(stream)
        return "", b""

    def _chosen(self, path, body):
        name = path.removeprefix("/v1/predictions").strip("/").removesuffix("/cancel")
        if path.endswith("/account"):
            return self._accounts.popleft() if self._accounts else http({"type": "user", "username": "x", "name": "x"})
        if body:
            return self._created(body)
        if path == "/v1/predictions":
            return self._pages.popleft() if self._pages else http(LISTING)
        looks = self._looks.get(name)
        return (
            looks.popleft()
            if looks
            else http({"id": name, "status": "succeeded", "output": f"https://a.example/{name}"})
        )

    def _created(self, body):
        mark = next((mark for mark in self._creates if mark.encode() in body), None)
        creates = self._creates.get(mark)
        good = self._ids.get(mark) or f"p{next(self._numbers)}"
        return creates.popleft() if creates else http({"id": good, "status": "starting"}, 201)
