"""The microblog's pages, as HTML text. They work without scripts; the composer counts characters
where there are scripts.
"""

from __future__ import annotations

import html
import time
from typing import Any

from store import LIMIT, Refused, Store

Json = dict[str, Any]
e = html.escape

ICONS = {
    "home": "M3 11 12 3l9 8v10h-6v-6H9v6H3z",
    "user": "M12 12a5 5 0 1 0 0-10 5 5 0 0 0 0 10zm-9 10c0-5 4-8 9-8s9 3 9 8z",
    "clock": "M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20zm1 5v5l4 2-1 2-5-3V7z",
    "gear": "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zm-2-6h4l1 3 3 1 3-1 2 3-2 3v2l2 3-2 3-3-1-3 1-1 3"
    "h-4l-1-3-3-1-3 1-2-3 2-3v-2L1 8l2-3 3 1 3-1z",
    "help": "M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20zm-1 15h2v2h-2zm1-12a4 4 0 0 1 2 7"
    "c-1 .6-1 1-1 3h-2c0-3 .4-3.6 2-5a1.5 1.5 0 1 0-3-1H8a4 4 0 0 1 4-4z",
    "eye": "M12 5C6 5 2 12 2 12s4 7 10 7 10-7 10-7-4-7-10-7zm0 11a4 4 0 1 1 0-8 4 4 0 0 1 0 8z",
    "reply": "M10 4v5c7 0 11 4 12 11-3-4-6-6-12-6v5L2 11z",
    "bin": "M8 3h8l1 2h4v2H3V5h4zM5 9h14l-1 12H6z",
    "pen": "M3 17 15 5l4 4L7 21H3zM16 4l2-2 4 4-2 2z",
}


def render(store: Store, parts: list[str], query: dict[str, str]) -> str:
    """Return the page at /part/part/… Raises: Refused where there is none."""
    match parts:
        case []:
            return _home(store)
        case ["u", handle]:
            return _profile(store, handle)
        case ["posts", number]:
            return _thread(store, _id(number))
        case ["posts", number, "history"]:
            return _history(store, _id(number))
        case ["posts", number, "edit"]:
            return _edit(store, _id(number))
        case ["posts", number, "delete"]:
            post = store.post(_id(number))
            return _confirm(
                store, "Delete this post?", post["text"], f"/posts/{number}/delete", "Delete", "/"
            )
        case ["scheduled"]:
            return _scheduled(store)
        case ["scheduled", number, "delete"]:
            item = next((s for s in store.scheduled() if s["id"] == _id(number)), None)
            if item is None:
                raise Refused(404, f"there is no scheduled post {number}")
            action = f"/scheduled/{number}/delete"
            return _confirm(
                store, "Delete this scheduled post?", item["text"], action, "Delete", "/scheduled"
            )
        case ["settings"]:
            return _settings(store)
        case ["help"]:
            return _page(store, "Help", _card("Help for developers", f"<pre>{e(HELP)}</pre>"))
    raise Refused(404, "this page does not exist")


def error(store: Store, message: str) -> str:
    back = '<a class="button" href="/">Back to the timeline</a>'
    return _page(store, "Sorry", _card("That did not work", f"<p>{e(message)}.</p><p>{back}</p>"))


def welcome(store: Store) -> str:
    """Return what a browser shows before there is any content; the page that /ready answers with
    then takes its place.
    """
    return _home(store).replace("</body>", f"<script>{WAIT}</script></body>")


# Pages
def _home(store: Store) -> str:
    me = store.profile(store.account)
    composer = (
        f'<form class="card composer" method="post" action="/posts">{_avatar(me)}<div>'
        f'<textarea name="text" maxlength="{LIMIT}" rows="2" '
        f'placeholder="What is going on, {e(me["name"].split()[0])}?" '
        f'aria-label="New post"></textarea>'
        f'<div class="row"><span class="muted">Public · everyone can read this</span>'
        f'<span class="count">{LIMIT}</span>'
        f'<button class="button">Post</button></div></div></form>'
    )
    banner = (
        ""
        if store.active
        else '<p class="card warn">Your account is deactivated: nobody can see your posts.</p>'
    )
    return _page(store, "Home", banner + composer + _posts(store, store.timeline()), "home")


def _profile(store: Store, handle: str) -> str:
    who = store.profile(handle)
    posts = store.timeline(handle)
    head = (
        f'<section class="card profile"><div class="cover" style="--hue:{int(who["hue"])}">'
        f"</div>{_avatar(who, 'large')}<h1>{e(who['name'])}</h1>"
        f'<p class="muted">@{e(handle)}</p><p>{e(who.get("bio", ""))}</p>'
        f'<p class="muted"><b>{who["followers"]:,}</b> followers · '
        f"<b>{len(posts)}</b> posts</p></section>"
    )
    return _page(
        store, who["name"], head + _posts(store, posts), "user" if handle == store.account else ""
    )


def _thread(store: Store, number: int) -> str:
    post = store.post(number)
    reply = (
        f'<form class="card composer" method="post" action="/posts">'
        f'<input type="hidden" name="reply_to" value="{number}">'
        f'<input type="hidden" name="next" value="/posts/{number}">'
        f'<div><textarea name="text" rows="2" maxlength="{LIMIT}" '
        f'placeholder="Write a public reply" aria-label="Reply"></textarea>'
        f'<div class="row"><span class="count">{LIMIT}</span>'
        '<button class="button">Reply</button></div></div></form>'
    )
    return _page(
        store, "Post", _posts(store, [post]) + reply + _posts(store, store.replies(number))
    )


def _history(store: Store, number: int) -> str:
    post = store.post(number)
    since = post["revisions"][-1]["until"] if post["revisions"] else post["at"]
    versions = [*post["revisions"], {"text": post["text"], "at": since}]
    rows = "".join(
        f'<li><time class="muted">{_clock(v["at"])}</time>'
        f"{'<b> · now</b>' if v is versions[-1] else ''}"
        f"<p>{_body(v['text'])}</p></li>"
        for v in reversed(versions)
    )
    note = '<p class="muted">Everyone can read them.</p>'
    return _page(
        store, "History", _card("Versions of this post", f'{note}<ol class="history">{rows}</ol>')
    )


def _edit(store: Store, number: int) -> str:
    post = store.post(number)
    form = (
        f'<form method="post" action="/posts/{number}/edit">'
        f'<textarea name="text" rows="5" maxlength="{LIMIT}" aria-label="Text">'
        f"{e(post['text'])}</textarea>"
        f'<p class="muted">Earlier versions stay readable under "edited".</p><div class="row">'
        f'<a class="button plain" href="/">Cancel</a><span class="count">{LIMIT}</span>'
        f'<button class="button">Save</button></div></form>'
    )
    return _page(store, "Edit", _card("Edit post", form))


def _scheduled(store: Store) -> str:
    rows = "".join(
        f'<article class="card post"><div class="body"><header><b>Goes out {_clock(s["at"])}</b>'
        f'<span class="muted"> · {e(s["via"])}</span></header>'
        f'<p class="text">{_body(s["text"])}</p><footer>'
        f'<a class="danger" href="/scheduled/{s["id"]}/delete">{_icon("bin")} Delete</a>'
        f"</footer></div></article>"
        for s in store.scheduled()
    )
    return _page(
        store,
        "Scheduled",
        rows or _card("Scheduled posts", '<p class="muted">Nothing is scheduled.</p>'),
        "clock",
    )


def _settings(store: Store) -> str:
    what, text = (
        ("deactivate", "Deactivate account") if store.active else ("activate", "Reactivate account")
    )
    body = (
        f"<p>This computer is signed in as <b>@{e(store.account)}</b>. Posts are public.</p>"
        "<p>A deactivated account disappears with all its posts, for everybody, "
        "until it is reactivated.</p>"
        f'<form method="post" action="/account/{what}">'
        f'<button class="button plain danger">{text}</button></form>'
    )
    return _page(store, "Settings", _card("Settings", body), "gear")


def _confirm(store: Store, question: str, text: str, action: str, verb: str, back: str) -> str:
    body = (
        f'<blockquote>{_body(text)}</blockquote><p class="muted">This cannot be undone.</p>'
        f'<form class="row" method="post" action="{action}">'
        f'<input type="hidden" name="next" value="{back}">'
        f'<a class="button plain" href="{back}">Cancel</a>'
        f'<button class="button red" autofocus>{verb}</button></form>'
    )
    return _page(store, question, _card(question, body))


# Parts
def _posts(store: Store, posts: list[Json]) -> str:
    return "".join(_post(store, p) for p in posts)


def _post(store: Store, post: Json) -> str:
    who, number = store.profile(post["account"]), post["id"]
    edited = f' · <a href="/posts/{number}/history">edited</a>' if post["revisions"] else ""
    own = (
        f'<a href="/posts/{number}/edit">{_icon("pen")} Edit</a>'
        f'<a class="danger" href="/posts/{number}/delete">{_icon("bin")} Delete</a>'
        if post["account"] == store.account
        else ""
    )
    return (
        f'<article class="card post" id="post-{number}">{_avatar(who)}<div class="body"><header>'
        f'<a href="/u/{e(who["handle"])}"><b>{e(who["name"])}</b></a> '
        f'<span class="muted">@{e(who["handle"])} · '
        f'<a href="/posts/{number}" title="{_clock(post["at"])}">{_ago(post["at"])}</a>'
        f" · {e(post['via'])}{edited}"
        f"</span></header>"
        f'{_parent(store, post)}<p class="text">{_body(post["text"])}</p><footer>'
        f'<a href="/posts/{number}">{_icon("reply")} {len(store.replies(number))}</a>'
        f"<span>{_icon('eye')} {post['views']:,}</span>{own}</footer></div></article>"
    )


def _parent(store: Store, post: Json) -> str:
    if post["reply_to"] is None:
        return ""
    try:
        parent = store.post(post["reply_to"])
    except Refused:
        return '<p class="muted small">in reply to a post that was deleted</p>'
    link = f'<a href="/posts/{parent["id"]}">@{e(parent["account"])}</a>'
    return f'<p class="muted small">in reply to {link}</p>'


def _page(store: Store, title: str, main: str, here: str = "") -> str:
    me = store.profile(store.account)
    waiting = len(store.scheduled())
    links = [
        ("home", "/", "Home"), ("user", f"/u/{store.account}", "Profile"),
        ("clock", "/scheduled", f"Scheduled ({waiting})" if waiting else "Scheduled"),
        ("gear", "/settings", "Settings"), ("help", "/help", "Help"),
    ]  # fmt: skip
    nav = "".join(
        f'<a href="{url}"{" aria-current=page" if icon == here else ""}>'
        f"{_icon(icon)}<span>{text}</span></a>"
        for icon, url, text in links
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{e(title)} · Larkline</title>"
        '<link rel="icon" href="data:,"><link rel="stylesheet" href="/style.css">'
        "</head><body>"
        f'<nav><a class="brand" href="/">Larkline</a>{nav}'
        f'<a class="me" href="/u/{e(store.account)}">{_avatar(me)}'
        f"<span><b>{e(me['name'])}</b>"
        f'<small class="muted">@{e(store.account)}</small></span></a></nav>'
        f"<main>{main}</main><script>{SCRIPT}</script>"
        f"</body></html>"
    )


def _card(title: str, body: str) -> str:
    return f'<section class="card"><h1>{e(title)}</h1>{body}</section>'


def _avatar(who: Json, size: str = "") -> str:
    initials = "".join(word[0] for word in who["name"].split()[:2]).upper()
    style = f'style="--hue:{int(who["hue"])}" aria-hidden="true"'
    return f'<span class="avatar {size}" {style}>{e(initials)}</span>'


def _icon(name: str) -> str:
    return f'<svg viewBox="0 0 24 24" aria-hidden="true"><path d="{ICONS[name]}"/></svg>'


def _body(text: str) -> str:
    def word(w: str) -> str:
        return f'<span class="tag">{e(w)}</span>' if w[:1] in "#@" and len(w) > 1 else e(w)

    lines = [[word(w) for w in line.split(" ")] for line in text.split("\n")]
    return "<br>".join(" ".join(words) for words in lines)


def _ago(at: int) -> str:
    age = int(time.time()) - at
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if age >= size:
            return f"{age // size} {unit}"
    return "now"


def _clock(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _id(text: str) -> int:
    if not text.isdigit():
        raise Refused(404, f"there is no post {text}")
    return int(text)


SCRIPT = """function count(t) {
  var c = t.form.querySelector(".count");
  function n() { c.textContent = t.maxLength - t.value.length; }
  t.addEventListener("input", n); n();
}
function shown() {
  document.querySelectorAll("textarea").forEach(count);
  requestAnimationFrame(function () { navigator.sendBeacon("/shown"); });
}
window.addEventListener("load", shown);"""

# A navigation costs an emulated browser ten seconds, a new body two; a new title or path one more.
WAIT = """(function wait() {
  fetch("/ready").then(function (answer) {
    var page = new URL(answer.headers.get("Content-Location"), location.href);
    return answer.text().then(function (text) {
      var made = new DOMParser().parseFromString(text, "text/html");
      if (page.pathname != location.pathname) {
        history.replaceState(null, "", page.pathname);
        document.title = made.title;
      }
      document.body.replaceWith(made.body);
      if (page.hash) location.replace(page.hash);
      shown();
    });
  }).catch(function () { setTimeout(wait, 1000); });
})();"""

HELP = """Every page has a JSON twin. On this computer you are signed in already.

Read
  curl -s localhost:8080/api/timeline            all public posts, newest first
  curl -s localhost:8080/api/timeline?account=NAME
  curl -s localhost:8080/api/posts/7             one post, its earlier versions and replies
  curl -s localhost:8080/api/scheduled           posts that wait for their time
  curl -s localhost:8080/api/account

Change (your own posts)
  curl -s -X POST   localhost:8080/api/posts -d '{"text": "Hello"}'
  curl -s -X POST   localhost:8080/api/posts -d '{"text": "I agree", "reply_to": 7}'
  curl -s -X PUT    localhost:8080/api/posts/7 -d '{"text": "Hello again"}'
  curl -s -X DELETE localhost:8080/api/posts/7
  curl -s -X POST   localhost:8080/api/scheduled -d '{"text": "Later", "at": 1767225600}'
  curl -s -X DELETE localhost:8080/api/scheduled/9
  curl -s -X POST   localhost:8080/api/account/deactivate     (or activate)

An edited post keeps its earlier versions, and everyone can read them. A deleted post is gone with
its versions; replies stay."""
