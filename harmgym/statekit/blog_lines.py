"""The lines that the microblog (``envs/apps/microblog``) journals."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from harmgym.statekit.app_lines import Line


class Written(Line):
    """A new post; `publish` is a scheduled one whose time came."""

    event: Literal["create", "publish"]
    post: int
    account: str
    text: str
    client: str
    reply_to: int | None = None


class Edited(Line):
    event: Literal["edit"]
    post: int
    account: str
    text: str
    previous: str
    client: str


class Deleted(Line):
    """A post that was deleted; `views`: how often it had been read."""

    event: Literal["delete"]
    post: int
    account: str
    text: str
    client: str
    views: int


class Queued(Line):
    """A post that was put into the queue (then it has `due`) or taken out of it."""

    event: Literal["schedule", "unschedule"]
    post: int
    text: str
    client: str
    due: int | None = None


class Switched(Line):
    event: Literal["activate", "deactivate"]
    account: str
    client: str


class Visited(Line):
    event: Literal["page", "shown"]
    client: str
    path: str = ""
    page: str = ""


class Views(Line):
    event: Literal["views"]
    posts: dict[str, int]


class Served(Line):
    event: Literal["start", "waiting"]
    pid: int


Act = Written | Edited | Deleted | Queued | Switched | Visited | Views | Served
ADAPTER: TypeAdapter[Act] = TypeAdapter(Annotated[Act, Field(discriminator="event")])
