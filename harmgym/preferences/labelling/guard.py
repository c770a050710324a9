"""Who may ask the labelling page's server, and what every answer carries.

The server listens on loopback, where every program and every web page that this computer has open
can reach it. So nothing is served but to the browser that opened the address with the token:
another Host header is refused (DNS rebinding), a wrong or missing token (403), a POST from another
origin (403), a body over 64 KiB (413) or one that does not come (408). This is ASGI middleware in
front of every route: one that is added later is guarded too.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping
from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = "127.0.0.1"
MAX_BODY = 64 * 1024
BODY_TIMEOUT_S = 30.0
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Refusal(Exception):
    """A request that is not served, with its HTTP status and one sentence."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Guard:
    """Lets in who has the token, and puts `HEADERS` on every answer."""

    def __init__(self, app: ASGIApp, port: int, token: str) -> None:
        self.app, self.token = app, token
        self.hosts = (f"{LOOPBACK}:{port}", f"localhost:{port}")
        # Browsers share cookies between the ports of a host: each server needs a name of its own.
        self.cookie = f"harmgym_label_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        request = Request(scope, receive)
        try:
            answer = self._let_in(request)
        except Refusal as err:
            answer = refused(err)
        await (answer or self.app)(scope, receive, send_with_headers)

    def _let_in(self, request: Request) -> Response | None:
        """Return the answer that sets the cookie, None when the request may pass. Raises:
        Refusal.
        """
        host = request.headers.get("Host", "")
        if host not in self.hosts:
            needed = self.hosts[0]
            raise Refusal(HTTPStatus.FORBIDDEN, f"needed host {needed}, found {host[:80]!r}")
        token = request.query_params.get("token")
        if request.method == "GET" and request.url.path == "/" and token is not None:
            return self._set_cookie(token)
        if not _same(request.cookies.get(self.cookie, ""), self.token):
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "open the address that 'harmgym label' printed when it was started",
            )
        # A browser leaves Origin out of some requests, but never out of a POST of another page.
        origin = request.headers.get("Origin")
        if (
            request.method != "GET"
            and origin is not None
            and origin.removeprefix("http://") not in self.hosts
        ):
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                f"needed a request from this page, found one from {origin[:80]!r}",
            )
        return None

    def _set_cookie(self, token: str) -> Response:
        if not _same(token, self.token):
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "wrong token; open the address that 'harmgym label' printed when it was started",
            )
        answer = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        answer.set_cookie(self.cookie, self.token, path="/", httponly=True, samesite="lax")
        return answer


def _same(found: str, needed: str) -> bool:
    """Compare in a time that does not depend on how much of the secret is right."""
    return secrets.compare_digest(found.encode("utf-8", "surrogatepass"), needed.encode())


async def limited_body(request: Request) -> bytes:
    """Read a JSON body of at most `MAX_BODY` bytes, counting what really comes. Raises: Refusal."""
    length = request.headers.get("Content-Length", "")
    if not length.isascii() or not length.isdigit():
        raise Refusal(HTTPStatus.LENGTH_REQUIRED, "needed a Content-Length")
    if len(length) > 9 or int(length) > MAX_BODY:
        raise Refusal(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"needed at most {MAX_BODY} bytes, found {length[:20]}",
        )
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "needed Content-Type application/json")
    body = b""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY:
                    raise Refusal(
                        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"needed at most {MAX_BODY} bytes"
                    )
    except TimeoutError:
        raise Refusal(
            HTTPStatus.REQUEST_TIMEOUT, f"needed the body within {BODY_TIMEOUT_S:.0f} s"
        ) from None
    return body


def refused(err: Refusal) -> Response:
    """The answer to a request that is not served; a body may be left unread, so it is the last of
    its connection.
    """
    return json_response({"error": str(err)}, err.status, {"Connection": "close"})


def json_response(
    data: Mapping[str, object],
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return JSON in plain ASCII, which holds any text there is."""
    return Response(json.dumps(data), status, headers, "application/json")
