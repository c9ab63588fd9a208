"""Who may talk to the server: its own page, opened under its own address, with the token."""

import ipaddress
import secrets
import socket
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer: nothing foreign is loaded into the page, and no foreign page embeds any of it."""


def is_local(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    return host in LOCAL


def asked_of(request: Request) -> tuple[str, int]:
    """The name and the port in ``Host``; no name if it is none that a browser sends."""
    try:
        parts = urlsplit(f"//{request.headers.get('host', '')}")
        return parts.hostname or "", parts.port or 80
    except ValueError:
        return "", 0


def cookie_of(request: Request) -> str:
    """The name of the cookie with the token; with the port, for a browser sends a cookie to all ports of a machine."""
    return f"qgnet-token-{asked_of(request)[1]}"


class Guard:
    """Refuses requests that other pages make, before anything else sees them.

    - A name of another machine in ``Host`` is refused: such a page has been pointed here by its DNS.
    - What changes something must come from the page itself (``Origin``).
    - With a token, everything needs it: once in the address, ``/?token=…``, from then on in a cookie.
    - What is not HTTP, as WebSockets, is refused: nothing here speaks it.

    Args:
        app: that is guarded.
        host: where the server listens; if that is not this machine alone, its own names and addresses may be asked for.
        token: that is needed; None: none, and every user of every machine that reaches the server is let in.
    """

    def __init__(self, app: ASGIApp, host: str, token: str | None) -> None:
        self.app = app
        self.local = is_local(host)
        self.names = LOCAL if self.local else LOCAL | {host.lower(), socket.gethostname().lower()}
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on or refuse."""
        if scope["type"] == "lifespan":  # the server's own, of its start and end
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        request = Request(scope)
        answer = self.refusal(request) or self.entrance(request)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
            await send(message)

        await (answer or self.app)(scope, receive, with_headers)

    def refusal(self, request: Request) -> Response | None:
        """Why a request is not answered at all; None if it may be."""
        host = request.headers.get("host", "")
        if not self.is_own(asked_of(request)[0]):
            return PlainTextResponse("This name is not the server's. Open the address that `qgnet serve` printed.", 421)
        changes = request.method not in ("GET", "HEAD")
        if changes and urlsplit(request.headers.get("origin", "")).netloc != host:
            return PlainTextResponse("Only the page itself may ask for this.", 403)
        navigates = request.headers.get("sec-fetch-mode") == "navigate"
        if request.headers.get("sec-fetch-site") == "cross-site" and not navigates:
            return PlainTextResponse("Another page may not load this.", 403)
        return None

    def is_own(self, name: str) -> bool:
        """Whether ``Host`` may be this; an address is no name that someone else's DNS could point here."""
        if name in self.names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return not self.local

    def entrance(self, request: Request) -> Response | None:
        """What the token in the address turns into, or that it is missing; None if the request may go on."""
        cookie = cookie_of(request)
        if self.token is None or self.is_token(request.cookies.get(cookie, "")):
            return None
        if request.url.path == "/" and self.is_token(request.query_params.get("token", "")):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(cookie, self.token, httponly=True, samesite="strict")
            return answer
        return PlainTextResponse("The token is missing. Open the whole address that `qgnet serve` printed.", 401)

    def is_token(self, given: str) -> bool:
        """Compared in constant time."""
        return self.token is not None and secrets.compare_digest(given.encode(), self.token.encode())
