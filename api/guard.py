"""What holds for every answer and every request: safe headers, and a bound on the query's length. ASGI only."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import MEDIA_TYPE, body

MAX_QUERY = 8_192  # bytes
MAX_BODY = 65_536  # bytes; no route reads that much, but
MAX_CONFIGURATION = 1_048_576  # bytes, of a gateway's configuration
MAX_REQUEST = 8_388_608  # bytes, of a request for supply commands: a campaign names up to 10,000 meter points
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Guard:
    """Middleware around the whole app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        if len(scope["query_string"]) > MAX_QUERY:
            await _refuse(send_guarded, 414, "query-too-long", f"a query has at most {MAX_QUERY} bytes")
            return
        limit = _limit(scope["path"])
        if _length(scope) > limit:
            await _refuse(send_guarded, 413, "body-too-large", f"a body has at most {limit} bytes")
            return
        await self._app(scope, receive, send_guarded)


def _limit(path: str) -> int:
    if path == "/v1/commands":
        return MAX_REQUEST
    return MAX_CONFIGURATION if path.endswith("/configuration") else MAX_BODY


def _length(scope: Scope) -> int:
    text = Headers(scope=scope).get("content-length", "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


async def _refuse(send: Send, status: int, kind: str, detail: str) -> None:
    content = body(status, kind, detail)
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
