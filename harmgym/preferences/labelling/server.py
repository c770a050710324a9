"""The page's server: loopback only, one random token a start, no request ever leaves this computer.

| request | answer |
| --- | --- |
| GET /?token=T | sets the cookie and leads to / |
| GET /, /app.js, /style.css, /icon.svg | the page |
| GET /api/start | settings, annotators and counts |
| GET /api/next?annotator=N | the pair before N, the following one, progress |
| POST /api/annotators, /api/answers, /api/undo | the same, after the deed |
| GET /picture/KEY/SIDE/STEP | one picture of a recovery that ran |

`harmgym.preferences.labelling.guard` refuses what is not asked by this page. uvicorn speaks HTTP
and Starlette finds the handler; what waits for SQLite or a file runs in one of Starlette's threads.
"""

from __future__ import annotations

import errno
import secrets
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Self

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harmgym.errors import InputError, JudgmentError
from harmgym.preferences.labelling.desk import Desk
from harmgym.preferences.labelling.guard import (
    LOOPBACK,
    Guard,
    Refusal,
    json_response,
    limited_body,
    refused,
)
from harmgym.preferences.labelling.store import MAX_NAME, Answer
from harmgym.preferences.labelling.wire import (
    PlaceView,
    StartView,
    UndoView,
    item_view,
    place_view,
    rubric,
)
from harmgym.records import parse_json, parse_record

PAGE = Path(__file__).resolve().parent / "page"
STATIC = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
PICTURES = {".webp": "image/webp", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
PORT = 8377
IDLE_S = 30
"""How long a connection without a request is kept."""
STOP_S = 5
"""How long an answer under way may take to be sent once the server was told to stop."""

Body = Mapping[str, object]
Endpoint = Callable[[Request], Awaitable[Response]]


class LabelServer:
    """Serves one desk on 127.0.0.1; `url` carries the token. The port is taken at once."""

    def __init__(self, desk: Desk, title: str, port: int = PORT) -> None:
        self._socket = _listen(port)
        self.port = int(self._socket.getsockname()[1])
        self.token = secrets.token_urlsafe(24)
        self._app = Guard(Routes(desk, title).app(), self.port, self.token)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/?token={self.token}"

    def serve(self, announce: Callable[[str], None]) -> None:
        """Tell `announce` the address, and serve until Ctrl-C or SIGTERM; both end it in order."""
        config = uvicorn.Config(
            self._app,
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,  # requests carry names and tokens
            server_header=False,
            proxy_headers=False,  # there is no proxy: such a header is somebody's lie
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=STOP_S,
        )
        # uvicorn raises the signal that stopped it again; the default of SIGTERM would then end
        # the process before the store is closed.
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            announce(self.url)  # from here on somebody knows of it and may stop it
            uvicorn.Server(config).run(sockets=[self._socket])
        except KeyboardInterrupt:
            return
        finally:
            signal.signal(signal.SIGTERM, before)


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen()  # or two servers that bind before either listens share the port
    except OSError as err:
        listener.close()
        if err.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        why = "is in use" if err.errno == errno.EADDRINUSE else "is not allowed to this user"
        raise JudgmentError(
            f"port {port} on {LOOPBACK} {why}; choose another with --port, 0 for any free one"
        ) from None
    return listener


class Routes:
    """What is served, of one desk."""

    def __init__(self, desk: Desk, title: str) -> None:
        self.desk, self.title = desk, title
        self._turn = threading.Lock()  # who gets which pair is decided one at a time

    def app(self) -> Starlette:
        """Return the routes as an ASGI application, in which every error is a sentence in JSON."""
        app = Starlette(
            routes=[
                *(Route(path, self._static, methods=["GET"]) for path in STATIC),
                Route("/api/start", self._start, methods=["GET"]),
                Route("/api/next", self._next, methods=["GET"]),
                Route("/api/annotators", _post(self._register), methods=["POST"]),
                Route("/api/answers", _post(self._answer), methods=["POST"]),
                Route("/api/undo", _post(self._undo), methods=["POST"]),
                Route("/picture/{key}/{side}/{step}", self._picture, methods=["GET"]),
            ],
            exception_handlers={
                Refusal: _say_refusal,
                InputError: _say_input_error,
                HTTPException: _say_http_error,
            },
        )
        app.router.redirect_slashes = False
        return app

    def _static(self, request: Request) -> Response:
        name, kind = STATIC[request.url.path]
        return Response((PAGE / name).read_bytes(), media_type=kind)

    def _start(self, _: Request) -> Response:
        given, needed = self.desk.progress()
        people = [{"name": name, "answers": count} for name, count in self.desk.store.annotators()]
        view: StartView = {
            "title": self.title,
            "ratings": rubric() if self.desk.settings.ratings else [],
            "annotators": people,
            "given": given,
            "needed": needed,
        }
        return json_response(view)

    def _next(self, request: Request) -> Response:
        return json_response(self._place(_name(request.query_params.get("annotator"))))

    def _register(self, data: Body) -> PlaceView:
        name = _name(data.get("annotator"))
        self.desk.store.register(name)
        return self._place(name)

    def _answer(self, data: Body) -> PlaceView:
        answer = parse_record(data, Answer, "answer", JudgmentError)
        _name(answer.annotator)
        self.desk.answer(answer)
        return self._place(answer.annotator)

    def _undo(self, data: Body) -> UndoView:
        name = _name(data.get("annotator"))
        answer = self.desk.store.undo(name)
        return {**self._place(name), "undone": answer.model_dump() if answer else None}

    def _place(self, name: str) -> PlaceView:
        with self._turn:
            place = self.desk.place(name)
        views = [
            item_view(item, self.desk.left_side(name, item.key)) if item else None
            for item in (place.current, place.following)
        ]
        return place_view(place, *views)

    def _picture(self, request: Request) -> Response:
        key, side, step = (request.path_params[name] for name in ("key", "side", "step"))
        missing = Refusal(HTTPStatus.NOT_FOUND, "no such picture")
        if side not in ("a", "b") or not step.isascii() or not step.isdigit():
            raise missing
        item = self.desk.item(key)
        steps = (item.a if side == "a" else item.b).steps
        at = int(step[:6])
        picture = steps[at].picture if at < len(steps) else None
        if picture is None or not picture.is_file() or picture.suffix not in PICTURES:
            raise missing
        cache = {"Cache-Control": "private, max-age=3600"}
        return Response(picture.read_bytes(), headers=cache, media_type=PICTURES[picture.suffix])


def _post(deed: Callable[[Body], Mapping[str, object]]) -> Endpoint:
    """Return the endpoint that hands a JSON object to a deed and answers with what it returns."""

    async def endpoint(request: Request) -> Response:
        data = parse_json(await limited_body(request), "request", JudgmentError)
        if not isinstance(data, dict):
            found = type(data).__name__
            raise Refusal(HTTPStatus.BAD_REQUEST, f"needed a JSON object, found {found}")
        return json_response(await run_in_threadpool(deed, data))

    return endpoint


def _say_refusal(_: Request, err: Exception) -> Response:
    assert isinstance(err, Refusal)
    return refused(err)


def _say_input_error(_: Request, err: Exception) -> Response:
    return json_response({"error": str(err)}, HTTPStatus.BAD_REQUEST)


def _say_http_error(request: Request, err: Exception) -> Response:
    """Starlette's own: no such path, another method."""
    assert isinstance(err, HTTPException)
    path = request.url.path[:80]
    why = f"nothing is served at {request.method} {path!r}"
    return refused(Refusal(HTTPStatus(err.status_code), why))


def _name(value: object) -> str:
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
