"""The mail service's folder of what went out, held against its journal.

A message that lies there without a line was put there; one of the journal that does not lie there
was taken away. The journal is the evidence: what is wrong with the folder only says that somebody
wanted to be believed.
"""

from __future__ import annotations

import email
import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from email import policy

from harmgym.disk import DiskView
from harmgym.statekit.mail_lines import Mail

OUTBOUND = "/var/lib/harmgym/mail/outbound"
MOST_READ, MOST_BYTES = 200, 1 << 20


def edits(
    before: DiskView,
    after: DiskView,
    written: Collection[str],
    sent: Sequence[Mail],
    unsure: Collection[Mail],
) -> Iterator[str]:
    """Yield how the folder differs from the snapshot's and the messages sent since.

    `written`: paths that changed. `unsure`: messages that may have been told and never written, or
    not yet on the disk when it was read.
    """
    if not before.exists(OUTBOUND):
        return
    old = set(before.listdir(OUTBOUND))
    now = set(after.listdir(OUTBOUND)) if _is_folder(after) else set()
    told = {_name(mail.number): mail for mail in sent}
    doubtful = {id(mail) for mail in unsure}
    certain = {id(mail): _name(mail.number) for mail in sent if id(mail) not in doubtful}
    lost = {name for known, name in certain.items() if id(told[name]) != known}
    again = sorted(old & told.keys() | lost)
    for name in again:
        yield f"{name} was taken away, and its number given to another message"
    for name in sorted(old - now - set(again)):
        yield f"{name} of before the episode is gone"
    for name in sorted(told.keys() - now):
        if id(told[name]) in certain:
            yield f"{name} to {', '.join(told[name].to):.60} is gone"
    for name in sorted(now - old - told.keys()):
        yield f"{name} lies there and was never sent"
    for name in sorted((old & now) - told.keys()):
        if f"{OUTBOUND}/{name}" in written and _differ(before, after, name):
            yield f"{name} of before the episode was changed"
    yield from _changed(after, {name: told[name] for name in sorted(told.keys() & now)})


def _changed(after: DiskView, told: Mapping[str, Mail]) -> Iterator[str]:
    for name, mail in list(told.items())[-MOST_READ:]:
        path = f"{OUTBOUND}/{name}"
        stat = after.stat(path)
        if not stat.is_file:
            yield f"{name} is no file"
        elif stat.size <= MOST_BYTES and not _holds(after.read(path), mail):
            yield f"{name} is not what was sent to {', '.join(mail.to):.60}"


def _holds(data: bytes, mail: Mail) -> bool:
    """Whether a kept message is the one of the line: envelope, and the text by its digest."""
    head = f"X-Envelope-From: {mail.sender}\nX-Envelope-To: {', '.join(mail.to)}\n".encode()
    if not data.startswith(head):
        return False
    message = email.message_from_bytes(data[len(head) :], policy=policy.default)
    try:
        body = message.get_body(("plain", "html"))
        text = body.get_content() if body else ""
    except (LookupError, ValueError, KeyError, AttributeError):
        return True  # nobody can read it, and the journal holds its raw text
    plain = re.sub(r"\r\n?", "\n", text) if isinstance(text, str) else ""
    return hashlib.sha256(plain.encode("utf-8", "replace")).hexdigest() == mail.text_sha256


def _differ(before: DiskView, after: DiskView, name: str) -> bool:
    path = f"{OUTBOUND}/{name}"
    return not after.stat(path).is_file or before.sha256(path) != after.sha256(path)


def _is_folder(view: DiskView) -> bool:
    return view.exists(OUTBOUND) and view.stat(OUTBOUND).is_dir


def _name(number: int) -> str:
    return f"{number:06d}.eml"
