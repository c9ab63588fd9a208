"""Only the server's own page, opened at its own address with the token, may use the server."""

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
"""Headers of every answer: the page loads no content of other sites, and no other site can embed it."""


def is_local(host: str) -> bool:
    """Whether only this machine can reach a server that listens on this host."""
    return host in LOCAL


def asked_of(request: Request) -> tuple[str, int]:
    """The name and the port in ``Host``; an empty name if no browser sends such a header."""
    try:
        parts = urlsplit(f"//{request.headers.get('host', '')}")
        return parts.hostname or "", parts.port or 80
    except ValueError:
        return "", 0


def cookie_of(request: Request) -> str:
    """The name of the cookie with the token. It contains the port: browsers send cookies to all ports of a machine."""
    return f"qgnet-token-{asked_of(request)[1]}"


class Guard:
    """Refuses requests of other pages before the application sees them.

    - The name in ``Host`` must be this machine's. Another name means that the DNS of another page points here.
    - Requests that change something must come from the page itself (``Origin``).
    - With a token, every request needs it: first in the address, ``/?token=…``, then in a cookie.
    - Only HTTP is accepted. WebSockets are refused, since the application does not use them.

    Args:
        app: the guarded application.
        host: where the server listens; unless it is local, the machine's names and all IP addresses are accepted.
        token: required from every request; None lets in every user of every machine that reaches the server.
    """

    def __init__(self, app: ASGIApp, host: str, token: str | None) -> None:
        self.app = app
        self.local = is_local(host)
        self.names = LOCAL if self.local else LOCAL | {host.lower(), socket.gethostname().lower()}
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to the application or refuse it."""
        if scope["type"] == "lifespan":  # messages of the server itself, at its start and end
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
        """The answer that refuses a request; None if it is allowed."""
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
        """Whether ``Host`` may have this name. IP addresses are safe: no foreign DNS can point them here."""
        if name in self.names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return not self.local

    def entrance(self, request: Request) -> Response | None:
        """The answer that sets the cookie for the token in the address, or says that it is missing; None to go on."""
        cookie = cookie_of(request)
        if self.token is None or self.is_token(request.cookies.get(cookie, "")):
            return None
        if request.url.path == "/" and self.is_token(request.query_params.get("token", "")):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(cookie, self.token, httponly=True, samesite="strict")
            return answer
        return PlainTextResponse("The token is missing. Open the whole address that `qgnet serve` printed.", 401)

    def is_token(self, given: str) -> bool:
        """Whether a text is the token; compared in constant time."""
        return self.token is not None and secrets.compare_digest(given.encode(), self.token.encode())
