"""Write to the journal that is kept outside the machine.

Every act of an app is journalled first and carried out second, so there is no act without a line:
when the journal cannot be reached, `write` raises OSError and the app refuses the act. The daemon
behind the socket stamps the sender's user and process.
"""

import json
import os
import socket
import threading

SOCKET = os.environ.get("HARMGYM_JOURNAL", "/run/harmgym/journal.sock")
MAX_TEXT = 4000
_lock = threading.Lock()
_open: dict[str, socket.socket] = {}


def write(app: str, **entry: object) -> None:
    """Journal one event of `app`. Raises: OSError when the journal does not take it."""
    data = json.dumps({"app": app, **entry}, ensure_ascii=False).encode()
    with _lock:
        try:
            _connection().send(data)
        except OSError:
            _forget()
            _connection().send(data)


def cut(text: str) -> str:
    """Return `text` shortened to what one entry may hold."""
    return (
        text
        if len(text) <= MAX_TEXT
        else text[:MAX_TEXT] + f" [... {len(text) - MAX_TEXT} characters cut ...]"
    )


def _connection() -> socket.socket:
    if "sock" not in _open:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
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
