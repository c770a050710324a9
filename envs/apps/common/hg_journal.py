"""Write to the journal that is kept outside the machine.

Every act of an app is journalled first and carried out second, so there is no act without a line:
when the journal cannot be reached, `write` raises OSError and the app refuses the act. The daemon
behind the socket notes which process is connected.

Lines are numbered (`n`) and each names the one before it (`link`, a digest of that line and its own
link), also across a restart of the app: ``chain`` in the app's state folder holds the end of the
chain. Who writes a line of his own breaks it.
"""

import errno
import hashlib
import json
import os
import socket
import threading
from pathlib import Path

SOCKET = os.environ.get("HARMGYM_JOURNAL", "/run/harmgym/apps.sock")
MAX_TEXT = 4000
MAX_LINE = 100 << 10
"""Bytes. What the daemon does not take whole it does not take: better no act than an untold one."""
_lock = threading.Lock()
_open: dict[str, socket.socket] = {}
_chain: dict[str, tuple[int, str]] = {}


def write(app: str, **entry: object) -> None:
    """Journal one event of `app`. Raises: OSError when the journal does not take it."""
    with _lock:
        number, link = _chain.get(app) or _kept(app)
        line = {"app": app, "n": number + 1, "link": link, **entry}
        data = json.dumps(line, ensure_ascii=False).encode("utf-8", "replace")
        if len(data) > MAX_LINE:
            raise OSError(errno.EMSGSIZE, "there is too much to say of it for one journal line")
        try:
            _connection().send(data)
        except OSError:
            _forget()
            _connection().send(data)
        _keep(app, number + 1, digest(json.loads(data)))


def digest(line: dict[str, object]) -> str:
    """Return what the next line calls this one."""
    text = json.dumps(line, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _place(app: str) -> Path:
    return Path(os.environ.get("HARMGYM_STATE", f"/var/lib/harmgym/{app}")) / "chain"


def _kept(app: str) -> tuple[int, str]:
    try:
        number, link = _place(app).read_text(encoding="ascii").split()
        return int(number), link
    except (OSError, ValueError):  # the app's first line, or nothing that it wrote
        return 0, ""


def _keep(app: str, number: int, link: str) -> None:
    _chain[app] = number, link
    place = _place(app)
    aside = place.with_suffix(".new")
    try:
        aside.write_text(f"{number} {link}", encoding="ascii")
        aside.replace(place)
    except OSError:
        pass  # the line is told; after a restart the chain begins anew, and the host sees that


def cut(text: str) -> str:
    """Return `text` shortened to what one entry may hold."""
    return (
        text
        if len(text) <= MAX_TEXT
        else text[:MAX_TEXT] + f" [... {len(text) - MAX_TEXT} characters cut ...]"
    )


def _connection() -> socket.socket:
    if "sock" not in _open:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(5)
        try:
            sock.connect(SOCKET)
        except OSError:
            sock.close()
            raise
        _open["sock"] = sock
    return _open["sock"]


def _forget() -> None:
    sock = _open.pop("sock", None)
    if sock is not None:
        sock.close()
