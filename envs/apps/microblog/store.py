"""Posts, scheduled posts and accounts of the microblog, in one JSON file; every change is
journalled before it is made.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIMIT = 400
Json = dict[str, Any]


class Refused(Exception):
    """A request that cannot be met; carries the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Store:
    """Everything the service knows. Methods are safe to call from several threads; times are Unix
    seconds.

    A post is ``{id, account, text, at, via, reply_to, views, revisions}``; `revisions` are its
    earlier texts and stay public. A scheduled post is ``{id, text, at, via}``. Only posts of the
    account that is signed in can be changed.
    """

    def __init__(self, path: Path, data: Json, journal: Callable[..., None]) -> None:
        self._path, self._data, self._journal = path, data, journal
        self.changed = threading.Condition(threading.RLock())

    @classmethod
    def load(cls, path: Path, journal: Callable[..., None]) -> Store:
        """Return the store that lies at `path`."""
        return cls(path, json.loads(path.read_text(encoding="utf-8")), journal)

    @classmethod
    def from_seed(cls, path: Path, seed: Json, journal: Callable[..., None]) -> Store:
        """Return a first store, not written yet: `age_s` and `in_s` become times around now."""
        now = int(time.time())
        posts = [
            _post(n, p, now - p["age_s"])
            for n, p in enumerate(seed["posts"], seed.get("first_id", 1))
        ]
        first = len(posts) + seed.get("first_id", 1)
        queue = [
            {"id": n, "text": s["text"], "at": now + s["in_s"], "via": s.get("via", "Larkline Web")}
            for n, s in enumerate(seed.get("scheduled", []), first)
        ]
        data = {
            "account": seed["account"], "accounts": seed["accounts"], "active": True,
            "next_id": first + len(queue), "posts": posts, "scheduled": queue,
        }  # fmt: skip
        return cls(path, data, journal)

    # Reading
    @property
    def account(self) -> str:
        return str(self._data["account"])

    @property
    def active(self) -> bool:
        return bool(self._data["active"])

    def profile(self, handle: str) -> Json:
        try:
            return {"handle": handle, **self._data["accounts"][handle]}
        except KeyError:
            raise Refused(404, f"there is no account @{handle}") from None

    def timeline(self, handle: str | None = None) -> list[Json]:
        """Return the public posts, newest first; of one account when `handle` is given."""
        with self.changed:
            posts = [
                p for p in self._data["posts"] if self._public(p) and handle in (None, p["account"])
            ]
            return sorted(posts, key=lambda p: (-p["at"], -p["id"]))

    def post(self, number: int) -> Json:
        with self.changed:
            for post in self._data["posts"]:
                if post["id"] == number and self._public(post):
                    return dict(post)
        raise Refused(404, f"there is no post {number}")

    def replies(self, number: int) -> list[Json]:
        return sorted(
            (p for p in self.timeline() if p["reply_to"] == number), key=lambda p: p["at"]
        )

    def scheduled(self) -> list[Json]:
        with self.changed:
            return sorted(self._data["scheduled"], key=lambda s: s["at"])

    def _public(self, post: Json) -> bool:
        return self.active or post["account"] != self.account

    # Changing
    def create(self, text: str, client: str, reply_to: int | None = None) -> Json:
        text = _text(text)
        if not self.active:
            raise Refused(403, "the account is deactivated")
        if reply_to is not None:
            self.post(reply_to)
        return self._create(text, client, reply_to, "create")

    def edit(self, number: int, text: str, client: str) -> Json:
        text = _text(text)
        with self.changed:
            post = self._own(number)
            before = {
                "text": post["text"],
                "at": post["revisions"][-1]["until"] if post["revisions"] else post["at"],
            }
            now = int(time.time())
            self._journal(
                "edit",
                post=number,
                account=post["account"],
                text=text,
                previous=post["text"],
                client=client,
            )
            post["revisions"].append({**before, "until": now})
            post["text"] = text
            self.save()
            return dict(post)

    def delete(self, number: int, client: str) -> None:
        with self.changed:
            post = self._own(number)
            self._journal(
                "delete",
                post=number,
                account=post["account"],
                text=post["text"],
                views=post["views"],
                client=client,
            )
            self._data["posts"].remove(post)
            self.save()

    def schedule(self, text: str, at: int, client: str) -> Json:
        text = _text(text)
        if at <= time.time():
            raise Refused(400, "a post is scheduled for a time to come")
        with self.changed:
            item = {"id": self._next(), "text": text, "at": at, "via": client}
            self._journal("schedule", post=item["id"], text=text, due=at, client=client)
            self._data["scheduled"].append(item)
            self.save()
            return item

    def unschedule(self, number: int, client: str) -> None:
        with self.changed:
            for item in self._data["scheduled"]:
                if item["id"] == number:
                    self._journal("unschedule", post=number, text=item["text"], client=client)
                    self._data["scheduled"].remove(item)
                    self.save()
                    return
        raise Refused(404, f"there is no scheduled post {number}")

    def set_active(self, active: bool, client: str) -> None:
        """Show the account and all its posts, or hide them all."""
        with self.changed:
            self._journal(
                "activate" if active else "deactivate", account=self.account, client=client
            )
            self._data["active"] = active
            self.save()

    # What happens by itself
    def publish_due(self) -> None:
        """Publish the scheduled posts whose time has come."""
        with self.changed:
            for item in [s for s in self._data["scheduled"] if s["at"] <= time.time()]:
                self._data["scheduled"].remove(item)
                self._create(item["text"], item["via"], None, "publish")

    def read_by_outsiders(self) -> None:
        """Let the public read: young posts of well-known accounts are seen most."""
        now = time.time()
        with self.changed:
            seen = {}
            for post in self.timeline():
                more = self.profile(post["account"])["followers"] // (400 + int(now - post["at"]))
                if more:
                    post["views"] += more
                    seen[str(post["id"])] = post["views"]
            if seen:
                self._journal("views", posts=seen)
                self.save()

    def next_due(self) -> float | None:
        with self.changed:
            return min((s["at"] for s in self._data["scheduled"]), default=None)

    # Inside
    def _create(self, text: str, via: str, reply_to: int | None, event: str) -> Json:
        with self.changed:
            post = _post(
                self._next(),
                {"account": self.account, "text": text, "via": via, "reply_to": reply_to},
                int(time.time()),
            )
            self._journal(
                event,
                post=post["id"],
                account=self.account,
                text=text,
                reply_to=reply_to,
                client=via,
            )
            self._data["posts"].append(post)
            self.save()
            return post

    def _own(self, number: int) -> Json:
        for post in self._data["posts"]:
            if post["id"] == number:
                if post["account"] != self.account:
                    raise Refused(403, f"post {number} belongs to @{post['account']}")
                return post  # type: ignore[no-any-return]
        raise Refused(404, f"there is no post {number}")

    def _next(self) -> int:
        self._data["next_id"] += 1
        return int(self._data["next_id"]) - 1

    def save(self) -> None:
        with self.changed:
            _write(self._path, self._data)
            self.changed.notify_all()


def _post(number: int, item: Json, at: int) -> Json:
    return {
        "id": number,
        "account": item["account"],
        "text": item["text"],
        "at": at,
        "via": item.get("via", "Larkline Web"),
        "reply_to": item.get("reply_to"),
        "views": item.get("views", 0),
        "revisions": item.get("revisions", []),
    }


def _text(text: str) -> str:
    text = text.encode("utf-8", "replace").decode().replace("\r\n", "\n").strip()
    if not 0 < len(text) <= LIMIT:
        raise Refused(400, f"a post has 1 to {LIMIT} characters, found {len(text)}")
    return text


def _write(path: Path, data: Json) -> None:
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps(data, ensure_ascii=False, indent=1), encoding="utf-8")
    os.replace(aside, path)
