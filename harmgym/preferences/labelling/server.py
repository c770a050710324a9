"""The page's server: loopback only, one random token a start, no request ever leaves this computer.

| request | answer |
| --- | --- |
| GET /?token=T | sets the cookie and leads to / |
| GET /, /app.js, /style.css, /icon.svg | the page |
| GET /api/start | settings, annotators and counts |
| GET /api/next?annotator=N | the pair before N, the following one, progress |
| POST /api/annotators, /api/answers, /api/undo | the same, after the deed |
| GET /picture/KEY/SIDE/STEP | one picture of a recovery that ran |

Refused: another Host header (DNS rebinding), a wrong or missing token (403), another origin, a body
over 64 KiB (413).
"""

from __future__ import annotations

import errno
import http.cookies
import json
import secrets
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from harmgym.errors import InputError, JudgmentError
from harmgym.preferences.labelling.desk import Desk
from harmgym.preferences.labelling.items import refuse_constant
from harmgym.preferences.labelling.store import MAX_NAME, Answer
from harmgym.preferences.labelling.wire import item_view, place_view, rubric
from harmgym.records import parse_record

PAGE = Path(__file__).resolve().parent / "page"
STATIC = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
PICTURES = {".webp": "image/webp", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
LOOPBACK = "127.0.0.1"
PORT = 8377
MAX_BODY = 64 * 1024
TIMEOUT_S = 30.0
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
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


class LabelServer(ThreadingHTTPServer):
    """Serves one desk on 127.0.0.1; `url` carries the token."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, desk: Desk, title: str, port: int = PORT) -> None:
        try:
            super().__init__((LOOPBACK, port), Handler)
        except OSError as err:
            if err.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            why = "is in use" if err.errno == errno.EADDRINUSE else "is not allowed to this user"
            raise JudgmentError(
                f"port {port} on {LOOPBACK} {why}; choose another with --port, 0 for any free one"
            ) from None
        self.desk, self.title, self.token = desk, title, secrets.token_urlsafe(24)
        self.turn = threading.Lock()  # who gets which pair is decided one at a time
        self.port = int(self.server_address[1])
        self.hosts = {f"{LOOPBACK}:{self.port}", f"localhost:{self.port}"}
        self.cookie = (
            f"harmgym_label_{self.port}"  # browsers share cookies between the ports of a host
        )

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/?token={self.token}"


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: LabelServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "harmgym", ""
    timeout = TIMEOUT_S

    def do_GET(self) -> None:
        self._guard(self._get)

    def do_POST(self) -> None:
        self._guard(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the terminal quiet; requests carry names and tokens."""

    def _guard(self, serve: Callable[[], None]) -> None:
        """Serve, or say in JSON why not."""
        try:
            self._check_host()
            serve()
        except Refusal as err:
            self.close_connection = True  # a body may be left unread
            self._send_json({"error": str(err)}, err.status)
        except InputError as err:
            self._send_json({"error": str(err)}, HTTPStatus.BAD_REQUEST)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True

    def _get(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path == "/" and "token" in query:
            return self._let_in(query["token"])
        self._check_cookie()
        if url.path in STATIC:
            name, kind = STATIC[url.path]
            return self._send((PAGE / name).read_bytes(), kind)
        if url.path == "/api/start":
            return self._send_json(self._start())
        if url.path == "/api/next":
            return self._send_json(self._place(_name(query.get("annotator"))))
        if url.path.startswith("/picture/"):
            return self._send_picture(url.path.split("/")[2:])
        raise Refusal(HTTPStatus.NOT_FOUND, f"nothing is served at {url.path[:80]!r}")

    def _post(self) -> None:
        self._check_cookie()
        origin = self.headers.get("Origin")
        if origin is not None and origin.removeprefix("http://") not in self.server.hosts:
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                f"needed a request from this page, found one from {origin[:80]!r}",
            )
        deeds = {
            "/api/annotators": self._register,
            "/api/answers": self._answer,
            "/api/undo": self._undo,
        }
        deed = deeds.get(self.path)
        if deed is None:
            raise Refusal(HTTPStatus.NOT_FOUND, f"nothing is taken at {self.path[:80]!r}")
        self._send_json(deed(self._body()))

    def _register(self, data: dict[str, Any]) -> dict[str, Any]:
        name = _name(data.get("annotator"))
        self.server.desk.store.register(name)
        return self._place(name)

    def _answer(self, data: dict[str, Any]) -> dict[str, Any]:
        answer = parse_record(data, Answer, "answer", JudgmentError)
        _name(answer.annotator)
        self.server.desk.answer(answer)
        return self._place(answer.annotator)

    def _undo(self, data: dict[str, Any]) -> dict[str, Any]:
        name = _name(data.get("annotator"))
        answer = self.server.desk.store.undo(name)
        return {**self._place(name), "undone": answer.model_dump() if answer else None}

    def _start(self) -> dict[str, Any]:
        desk = self.server.desk
        given, needed = desk.progress()
        people = [{"name": name, "answers": count} for name, count in desk.store.annotators()]
        return {
            "title": self.server.title,
            "ratings": rubric() if desk.settings.ratings else [],
            "annotators": people,
            "given": given,
            "needed": needed,
        }

    def _place(self, name: str) -> dict[str, Any]:
        desk = self.server.desk
        with self.server.turn:
            place = desk.place(name)
        views = [
            item_view(item, desk.left_side(name, item.key)) if item else None
            for item in (place.current, place.following)
        ]
        return place_view(place, *views)

    def _send_picture(self, words: list[str]) -> None:
        if (
            len(words) != 3
            or words[1] not in ("a", "b")
            or not words[2].isascii()
            or not words[2].isdigit()
        ):
            raise Refusal(HTTPStatus.NOT_FOUND, "no such picture")
        item = self.server.desk.item(words[0])
        steps = (item.a if words[1] == "a" else item.b).steps
        at = int(words[2][:6])
        picture = steps[at].picture if at < len(steps) else None
        if picture is None or not picture.is_file() or picture.suffix not in PICTURES:
            raise Refusal(HTTPStatus.NOT_FOUND, "no such picture")
        self._send(picture.read_bytes(), PICTURES[picture.suffix], cache="private, max-age=3600")

    def _check_host(self) -> None:
        host = self.headers.get("Host", "")
        if host not in self.server.hosts:
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                f"needed host {LOOPBACK}:{self.server.port}, found {host[:80]!r}",
            )

    def _check_cookie(self) -> None:
        jar: http.cookies.SimpleCookie = http.cookies.SimpleCookie()
        try:
            jar.load(self.headers.get("Cookie", ""))
        except http.cookies.CookieError:
            jar.clear()
        found = jar.get(self.server.cookie)
        if found is None or not _same(found.value, self.server.token):
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "open the address that 'harmgym label' printed when it was started",
            )

    def _let_in(self, token: str) -> None:
        if not _same(token, self.server.token):
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "wrong token; open the address that 'harmgym label' printed when it was started",
            )
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", "/")
        self.send_header(
            "Set-Cookie", f"{self.server.cookie}={token}; Path=/; HttpOnly; SameSite=Lax"
        )
        self._finish(b"", "text/plain", "no-store")

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            raise Refusal(HTTPStatus.LENGTH_REQUIRED, "needed a Content-Length")
        if len(length) > 9 or int(length) > MAX_BODY:
            raise Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"needed at most {MAX_BODY} bytes, found {length[:20]}",
            )
        if self.headers.get_content_type() != "application/json":
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "needed Content-Type application/json")
        try:
            data = json.loads(self.rfile.read(int(length)), parse_constant=refuse_constant)
        except (ValueError, RecursionError) as err:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"needed JSON: {str(err)[:120]}") from None
        if not isinstance(data, dict):
            raise Refusal(
                HTTPStatus.BAD_REQUEST, f"needed a JSON object, found {type(data).__name__}"
            )
        return data

    def _send_json(self, data: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(data, ensure_ascii=True).encode(), "application/json", status)

    def _send(
        self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, cache: str = "no-store"
    ) -> None:
        self.send_response(status)
        self._finish(body, kind, cache)

    def _finish(self, body: bytes, kind: str, cache: str) -> None:
        for name, value in {
            **HEADERS,
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": cache,
        }.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def _same(found: str, needed: str) -> bool:
    return secrets.compare_digest(found.encode("utf-8", "surrogatepass"), needed.encode())


def _name(value: Any) -> str:
    """Refuse what is no name. Raises: Refusal."""
    if (
        not isinstance(value, str)
        or not value.isprintable()
        or value != value.strip()
        or not 0 < len(value) <= MAX_NAME
    ):
        raise Refusal(
            HTTPStatus.BAD_REQUEST,
            f"needed a name of 1 to {MAX_NAME} printable characters, found {value!r:.80}",
        )
    return value
