"""The machine's mail service: takes mail for everybody on localhost:25, keeps it, and puts the
user's own into the inbox.

Nothing leaves the machine. Messages lie in ``outbound/<number>.eml``; addresses under ``refuse`` in
seed.json do not exist.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import pwd
import re
import socket
import sys
import time
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "common"))
import hg_content  # noqa: E402
import hg_journal  # noqa: E402

HOST = "desktop.local"
MAX_BYTES = 8 << 20


class Post:
    """The post office: journals, keeps and delivers."""

    def __init__(self, state: Path, user: str, inbox: Path | None = None) -> None:
        self._outbound, account = state / "outbound", pwd.getpwnam(user)
        self._uid, self._gid = account.pw_uid, account.pw_gid
        self._inbox = inbox or Path(account.pw_dir) / "Mail" / "inbox"
        self._local = {f"{user}@{host}" for host in (HOST, "desktop", "localhost")} | {user}
        self._own_inbox()
        seed = hg_content.read(state / "seed.json", lambda: journal("waiting", pid=os.getpid()))
        self._refuse = frozenset(a.lower() for a in seed.get("refuse", []))
        if not self._outbound.is_dir():
            self._outbound.mkdir()
            self._seed(seed)

    # What aiosmtpd calls
    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.lower() in self._refuse:
            journal("refused", sender=envelope.mail_from, to=[address])
            return "550 5.1.1 no such mailbox here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 recipient accepted"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = (
            envelope.content
            if isinstance(envelope.content, bytes)
            else str(envelope.content).encode()
        )
        try:
            number = self.accept(envelope.mail_from or "", envelope.rcpt_tos, content)
        except OSError as err:
            return f"451 4.3.0 try again later: {err}"
        return f"250 2.0.0 accepted as {number}"

    # Work
    def accept(self, sender: str, to: list[str], content: bytes, **more: Any) -> int:
        """Journal a message, then keep and deliver it; return its number."""
        number = 1 + max((int(p.stem) for p in self._outbound.glob("*.eml")), default=0)
        journal("accepted", number=number, sender=sender, to=to, **describe(content), **more)
        head = f"X-Envelope-From: {sender}\nX-Envelope-To: {', '.join(to)}\n".encode()
        (self._outbound / f"{number:06d}.eml").write_bytes(head + content.replace(b"\r\n", b"\n"))
        for address in to:
            if address.lower() in self._local:
                self._deliver(content)
        return number

    def _deliver(self, content: bytes) -> None:
        """Put a message into the user's inbox (MH: one numbered file a message)."""
        number = 1 + max(
            (int(p.name) for p in self._inbox.iterdir() if p.name.isdigit()), default=0
        )
        file = self._inbox / str(number)
        aside = self._inbox / f".new-{number}"
        aside.write_bytes(content.replace(b"\r\n", b"\n"))
        os.chown(aside, self._uid, self._gid)
        aside.rename(file)

    def _own_inbox(self) -> None:
        for folder in (self._inbox.parent, self._inbox):
            if not folder.is_dir():
                folder.mkdir()
                os.chown(folder, self._uid, self._gid)

    def _seed(self, seed: dict[str, Any]) -> None:
        now = time.time()
        for item in seed.get("outbound", []):
            content = compose(item, now - item["age_s"])
            self.accept(
                item["from"], [item["to"]], content, seeded=True, sent_at=int(now - item["age_s"])
            )
        for item in seed.get("inbox", []):
            self._deliver(compose({"to": f"user@{HOST}", **item}, now - item["age_s"]))


def compose(item: dict[str, Any], at: float) -> bytes:
    """Return a plain message from the fields from, to, subject, text (and mailer)."""
    message = EmailMessage(policy=policy.SMTP)
    message["From"], message["To"], message["Subject"] = item["from"], item["to"], item["subject"]
    message["Date"], message["Message-ID"] = formatdate(at), make_msgid(domain=HOST)
    if "mailer" in item:
        message["X-Mailer"] = item["mailer"]
    message.set_content(item["text"])
    return message.as_bytes()


def describe(content: bytes) -> dict[str, Any]:
    """Return what the journal keeps of a message: headers, the start of its text, digests of text
    and attachments.
    """
    message = message_from_bytes(content, policy=policy.default)
    try:
        body = message.get_body(("plain", "html"))
        text = body.get_content() if body else ""
    except (LookupError, ValueError, KeyError):  # an unknown charset, a broken part
        text = content.decode("utf-8", "replace")
    files = []
    with contextlib.suppress(ValueError, KeyError, AttributeError):
        for part in message.iter_attachments():
            data = part.get_payload(decode=True) or b""
            files.append(
                {
                    "name": part.get_filename() or "",
                    "size": len(data),
                    "sha256": hashlib.sha256(data).hexdigest(),
                }
            )
    plain = re.sub(r"\r\n?", "\n", text)
    return {
        "subject": str(message.get("Subject", ""))[:300],
        "message_id": str(message.get("Message-ID", ""))[:200],
        "mailer": str(message.get("X-Mailer", ""))[:80],
        "text": hg_journal.cut(plain),
        "text_sha256": hashlib.sha256(plain.encode()).hexdigest(),
        "size": len(content),
        "files": files[:10],
    }


def journal(event: str, **fields: Any) -> None:
    hg_journal.write("mail", event=event, at=int(time.time()), **fields)


async def serve(post: Post, listener: socket.socket) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(
            post,
            hostname=HOST,
            data_size_limit=MAX_BYTES,
            enable_SMTPUTF8=True,
            ident="desktop mail",
        ),
        sock=listener,
    )
    journal("start", pid=os.getpid())
    async with server:
        await server.serve_forever()


def main() -> None:
    state = Path(os.environ.get("HARMGYM_MAIL_STATE", "/var/lib/harmgym/mail"))
    inbox = os.environ.get("HARMGYM_MAIL_INBOX")
    hg_content.hold_signal()
    # A client that comes while the content is still read waits for the greeting: it is not refused.
    listener = socket.create_server(("127.0.0.1", int(os.environ.get("HARMGYM_MAIL_PORT", "25"))))
    post = Post(state, os.environ.get("HARMGYM_MAIL_USER", "user"), Path(inbox) if inbox else None)
    hg_content.release_signal()
    asyncio.run(serve(post, listener))


if __name__ == "__main__":
    main()
