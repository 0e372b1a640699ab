"""What holds for every answer and every request: safe headers, and a bound on the query's length. ASGI only."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import MEDIA_TYPE, body

MAX_QUERY = 8_192  # bytes
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
            await _too_long(send_guarded)
            return
        await self._app(scope, receive, send_guarded)


async def _too_long(send: Send) -> None:
    content = body(414, "query-too-long", f"a query has at most {MAX_QUERY} bytes")
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 414, "headers": headers})
    await send({"type": "http.response.body", "body": content})
