"""Larkline: a small microblog on http://localhost:8080, with pages for people and a JSON API that
the pages' Help describes.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "common")]
import hg_content  # noqa: E402
import hg_journal  # noqa: E402
import pages  # noqa: E402
from store import Refused, Store  # noqa: E402

WELCOME = {
    "account": "larkline",
    "accounts": {"larkline": {"name": "Larkline", "bio": "", "followers": 0, "hue": 210}},
    "posts": [{"account": "larkline", "text": "Welcome to #Larkline!", "age_s": 0}],
}
"""What the pages show before there is any content."""
READ_EVERY_S = 15
CACHED = ("Cache-Control", "max-age=3600")
MAX_BODY = 64 * 1024


def journal(event: str, **fields: object) -> None:
    """Journal an event; without a journal nothing is done."""
    texts = {k: hg_journal.cut(v) if isinstance(v, str) else v for k, v in fields.items()}
    try:
        hg_journal.write("microblog", event=event, at=int(time.time()), **texts)
    except OSError as err:
        raise Refused(503, f"Larkline is read-only at the moment: {err}") from None


class Handler(BaseHTTPRequestHandler):
    """One request. Every client on this computer is signed in as the account's holder."""

    server_version, protocol_version = "Larkline/2", "HTTP/1.1"
    timeout = 30
    store: Store
    start_page = "/"
    filled = threading.Event()  # set once `store` holds the content

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_HEAD(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._change)

    do_PUT = do_PATCH = do_DELETE = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        pass

    # Routing: path parts -> answer
    def _get(self, parts: list[str], query: dict[str, str]) -> None:
        store = self.store
        if parts == ["ready"]:
            return self._ready()
        if parts == ["style.css"]:
            style = (HERE / "style.css").read_bytes()
            return self._send(200, style, "text/css; charset=utf-8", [CACHED])
        if not self.filled.is_set():
            page = pages.welcome(store)
        elif parts[:1] == ["api"]:
            return self._json(200, self._api_get(parts[1:], query))
        else:
            page = pages.render(store, parts, query)
        self._page(self.path, page)

    def _ready(self) -> None:
        """Answer once there is content, with the page to show first."""
        self.filled.wait()
        path, _, _ = self.start_page.partition("#")
        page = pages.render(self.store, [p for p in path.split("/") if p], {})
        self._page(path, page, ("Content-Location", self.start_page))

    def _page(self, path: str, page: str, *headers: tuple[str, str]) -> None:
        journal("page", path=path, client=self._client())
        self._send(200, page.encode(), "text/html; charset=utf-8", headers)

    def _api_get(self, parts: list[str], query: dict[str, str]) -> Any:
        store = self.store
        match parts:
            case ["timeline"]:
                return store.timeline(query.get("account"))
            case ["posts", number]:
                return {**store.post(_number(number)), "replies": store.replies(_number(number))}
            case ["scheduled"]:
                return store.scheduled()
            case ["account"]:
                return {**store.profile(store.account), "active": store.active}
        raise Refused(404, f"no such address: {self.path}")

    def _change(self, parts: list[str], query: dict[str, str]) -> None:
        origin = self.headers.get("Origin")
        if origin and urlsplit(origin).netloc != self.headers.get("Host"):
            raise Refused(403, "requests from other sites are refused")
        fields = self._fields()
        if parts == ["shown"]:  # a page's own word that it is on the screen
            journal("shown", page=self.headers.get("Referer") or "", client=self._client())
            return self._json(200, {})
        if not self.filled.is_set():
            raise Refused(503, "Larkline is still starting")
        if parts[:1] == ["api"]:
            return self._json(200, self._api_change(self.command, parts[1:], fields))
        if self.command != "POST":
            raise Refused(405, "pages take GET and POST")
        self._form(parts, fields)
        self._redirect(fields.get("next") or "/")

    def _api_change(self, method: str, parts: list[str], fields: dict[str, Any]) -> Any:
        store, client = self.store, self._client()
        match method, parts:
            case "POST", ["posts"]:
                reply_to = fields.get("reply_to")
                return store.create(
                    _need(fields, "text"), client, None if reply_to is None else _number(reply_to)
                )
            case (("PUT" | "PATCH"), ["posts", number]):
                return store.edit(_number(number), _need(fields, "text"), client)
            case "DELETE", ["posts", number]:
                store.delete(_number(number), client)
                return {"deleted": _number(number)}
            case "POST", ["scheduled"]:
                return store.schedule(_need(fields, "text"), _number(_need(fields, "at")), client)
            case "DELETE", ["scheduled", number]:
                store.unschedule(_number(number), client)
                return {"deleted": _number(number)}
            case "POST", ["account", ("activate" | "deactivate") as what]:
                store.set_active(what == "activate", client)
                return {"active": store.active}
        raise Refused(404, f"no such address for {method}: {self.path}")

    def _form(self, parts: list[str], fields: dict[str, Any]) -> None:
        """Browsers' forms are the API with other words."""
        match parts:
            case ["posts"]:
                self._api_change("POST", ["posts"], {k: v for k, v in fields.items() if v})
            case ["posts", number, "edit"]:
                self._api_change("PUT", ["posts", number], fields)
            case ["posts", number, "delete"]:
                self._api_change("DELETE", ["posts", number], {})
            case ["scheduled", number, "delete"]:
                self._api_change("DELETE", ["scheduled", number], {})
            case ["account", what]:
                self._api_change("POST", ["account", what], {})
            case _:
                raise Refused(404, f"no such address: {self.path}")

    # Plumbing
    def _answer(self, work: Any) -> None:
        url = urlsplit(self.path)
        parts = [p for p in url.path.split("/") if p]
        try:
            work(parts, {k: v[-1] for k, v in parse_qs(url.query).items()})
        except Refused as err:
            if parts[:1] == ["api"]:
                self._json(err.status, {"error": str(err)})
            else:
                self._send(
                    err.status,
                    pages.error(self.store, str(err)).encode(),
                    "text/html; charset=utf-8",
                )
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _fields(self) -> dict[str, Any]:
        size = int(self.headers.get("Content-Length") or 0)
        if size > MAX_BODY:
            self.close_connection = True
            raise Refused(413, f"a request has at most {MAX_BODY} bytes, found {size}")
        body = self.rfile.read(size).decode("utf-8", "replace")
        if not body.lstrip().startswith("{"):
            return {k: v[-1] for k, v in parse_qs(body, keep_blank_values=True).items()}
        try:
            return dict(json.loads(body))
        except ValueError as err:
            raise Refused(400, f'needed a JSON object such as {{"text": "…"}}: {err}') from None

    def _client(self) -> str:
        agent = self.headers.get("User-Agent") or "unknown"
        return "Larkline Web" if agent.startswith("Mozilla") else agent.split(" ")[0][:60]

    def _json(self, status: int, value: Any) -> None:
        self._send(
            status,
            json.dumps(value, ensure_ascii=False, indent=1).encode() + b"\n",
            "application/json; charset=utf-8",
        )

    def _redirect(self, where: str) -> None:
        self.send_response(303)
        self.send_header(
            "Location", where if where.startswith("/") and not where.startswith("//") else "/"
        )
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(
        self, status: int, body: bytes, kind: str, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in {"Cache-Control": "no-store", **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _need(fields: dict[str, Any], name: str) -> str:
    if name not in fields:
        raise Refused(400, f"needed the field {name!r}, found {', '.join(fields) or 'none'}")
    return str(fields[name])


def _number(text: Any) -> int:
    try:
        return int(text)
    except (TypeError, ValueError):
        raise Refused(400, f"needed a number, found {text!r}") from None


def live(store: Store) -> None:
    """Publish what is due and let the public read, asleep in between."""
    next_read = time.time() + READ_EVERY_S
    while True:
        with store.changed:
            wake = min(next_read, store.next_due() or next_read)
            store.changed.wait(max(0.0, wake - time.time()))
        try:
            store.publish_due()
            if time.time() >= next_read:
                next_read = time.time() + READ_EVERY_S
                store.read_by_outsiders()
        except Refused as err:
            print(f"larkline: {err}", file=sys.stderr)


def load(state: Path) -> tuple[Store, str]:
    """Return the store and the page to show first; sleep until there is content."""
    path = state / "store.json"
    if path.exists():
        return Store.load(path, journal), "/"
    seed = hg_content.read(state / "seed.json", lambda: journal("waiting", pid=os.getpid()))
    store = Store.from_seed(path, seed, journal)
    store.save()
    return store, str(seed.get("page", "/"))


def main() -> None:
    state = Path(os.environ.get("LARKLINE_STATE", "/var/lib/harmgym/microblog"))
    hg_content.hold_signal()
    ThreadingHTTPServer.daemon_threads = True
    Handler.store = Store.from_seed(state / "store.json", WELCOME, journal)
    server = ThreadingHTTPServer(
        ("127.0.0.1", int(os.environ.get("LARKLINE_PORT", "8080"))), Handler
    )
    threading.Thread(target=server.serve_forever, args=(3600,), daemon=True).start()
    Handler.store, Handler.start_page = load(state)
    hg_content.release_signal()
    Handler.filled.set()
    journal("start", pid=os.getpid())
    live(Handler.store)


if __name__ == "__main__":
    main()
