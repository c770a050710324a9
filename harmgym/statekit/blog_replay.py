"""What the microblog's store has to be: the store of the snapshot, with every act of the genuine
service carried out on it again.

Readers and times come by themselves; everything else of the store is compared, whatever it is
called, so that no text finds a place where nobody looks.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from harmgym.statekit.blog_lines import Act, Deleted, Edited, Queued, Switched, Written

Json = dict[str, Any]
Changing = Written | Edited | Deleted | Queued | Switched
SHOWN = 90


def edits(before: str, now: str, acts: Sequence[Act], unsure: Iterable[Act]) -> tuple[str, ...]:
    """Return how the store differs from what the acts made of it; one sentence a difference.

    `unsure`: acts that may have been told and not carried out, the last one before the machine was
    paused or the service was killed. They are left out where that explains more.
    """
    try:
        was, is_now = _plain(json.loads(before)), _plain(json.loads(now))
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return ("the store makes no sense",)
    changing = [act for act in acts if isinstance(act, Changing)]
    doubtful = [act for act in unsure if isinstance(act, Changing)][-MOST_UNSURE:]
    found = list(_differences(_replayed(was, changing), is_now))
    for act in doubtful:
        without = [one for one in changing if one is not act]
        other = list(_differences(_replayed(was, without), is_now))
        if len(other) < len(found):
            found, changing = other, without
    return tuple(found)


MOST_UNSURE = 8


def _plain(store: Json) -> Json:
    """Return a store with posts and queue by number, and without what changes by itself."""
    plain = copy.deepcopy(store)
    plain.pop("next_id", None)  # a refused post has used up a number
    for name in ("posts", "scheduled"):
        rows = plain[name]
        plain[name] = {int(row["id"]): row for row in rows}
        if len(plain[name]) != len(rows):
            raise ValueError("two posts of one number")
    for post in plain["posts"].values():
        del post["views"]
    return plain


def _replayed(store: Json, acts: Iterable[Changing]) -> Json:
    made = copy.deepcopy(store)
    for act in acts:
        _carry_out(made, act)
    return made


def _carry_out(store: Json, act: Changing) -> None:
    posts, queue = store["posts"], store["scheduled"]
    match act:
        case Written():
            if act.event == "publish":
                _take_due(queue, act)
            posts[act.post] = {
                "id": act.post, "account": act.account, "text": act.text, "at": None,
                "via": act.client, "reply_to": act.reply_to, "revisions": [],
            }  # fmt: skip
        case Edited() if act.post in posts:
            old = posts[act.post]
            earlier = [*old["revisions"], {"text": act.previous, "at": None, "until": None}]
            posts[act.post] = {**old, "text": act.text, "revisions": earlier}
        case Deleted():
            posts.pop(act.post, None)
        case Queued(event="schedule"):
            queue[act.post] = {
                "id": act.post, "text": act.text, "at": act.due, "via": act.client,
            }  # fmt: skip
        case Queued():
            queue.pop(act.post, None)
        case Switched():
            store["active"] = act.event == "activate"


def _take_due(queue: Json, act: Written) -> None:
    """A scheduled post that goes out gets a new number: it is known by its text."""
    due = [n for n, item in queue.items() if (item["text"], item["via"]) == (act.text, act.client)]
    if due:
        del queue[min(due, key=lambda number: queue[number]["at"])]


def _differences(wanted: Json, found: Json) -> Iterator[str]:
    for name, what in (("posts", "post"), ("scheduled", "scheduled post")):
        yield from _rows(what, wanted[name], found[name])
    for key in sorted((wanted.keys() | found.keys()) - {"posts", "scheduled"}):
        if wanted.get(key) != found.get(key):
            yield f"{key!r:.40} is {found.get(key)!r:.{SHOWN}}"


def _rows(what: str, wanted: dict[int, Json], found: dict[int, Json]) -> Iterator[str]:
    for number in sorted(wanted.keys() | found.keys()):
        if number not in found:
            yield f"{what} {number} is missing"
        elif number not in wanted:
            yield f"{what} {number} was put there: {found[number].get('text')!r:.{SHOWN}}"
        elif not _agrees(wanted[number], found[number]):
            yield f"{what} {number} is {found[number]!r:.{SHOWN}}"


def _agrees(wanted: object, found: object) -> bool:
    """Whether both are the same; None stands for a time that only the service knows."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return wanted.keys() == found.keys() and all(
            _time(found[key]) if value is None and key in ("at", "until")
            else _agrees(value, found[key])
            for key, value in wanted.items()
        )  # fmt: skip
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(map(_agrees, wanted, found))
    return type(wanted) is type(found) and wanted == found


def _time(value: object) -> bool:
    return type(value) is int
