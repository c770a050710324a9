"""Run the browser once while the image is built, so that its first start in the guest has its
databases and caches ready.

It starts without a screen, as the user, opens the start page, and is asked to quit over its
remote-control port (Marionette). A host that cannot run it costs a slower first start and nothing
else: then this says so and leaves no profile behind.
"""

import json
import os
import pathlib
import shutil
import socket
import sqlite3
import subprocess
import sys
import time

PROFILE = pathlib.Path.home() / ".mozilla/firefox/desktop"
CACHE = pathlib.Path.home() / ".cache/mozilla"
START_PAGE = "file:///usr/share/harmgym/start.html"
PORT, START_S, QUIT_S = 2828, 90, 60
UNWANTED_PREFS = (
    "app.update.lastUpdateTime",
    "browser.shell.mostRecentDateSetAsDefault",
    "browser.startup.lastColdStartupCheck",
    "captchadetection.",
    "idle.lastDailyNotification",
    "marionette.",
    "remote.",
    "storage.vacuum",
    "toolkit.startup",
)
UNWANTED_FILES = (
    "user.js",
    "datareporting",
    "crashes",
    "minidumps",
    "lock",
    ".parentlock",
    "sessionstore.jsonlz4",
    "sessionstore-backups",
)


def main() -> None:
    until_us = int(sys.argv[1]) * 1_000_000
    kept = {path: path.read_bytes() for path in PROFILE.iterdir()}
    (PROFILE / "user.js").write_text('user_pref("remote.prefs.recommended", false);\n')
    command = ["firefox-esr", "--headless", "--marionette", START_PAGE]
    browser = None
    try:
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        quit_politely(browser)
        clean(until_us)
    except (OSError, ValueError, subprocess.TimeoutExpired, sqlite3.Error) as err:
        print(f"the browser was not warmed up ({err!r}); its first start in the guest takes longer")
        if browser is not None:
            browser.kill()
            browser.wait()
        shutil.rmtree(PROFILE)
        shutil.rmtree(CACHE, ignore_errors=True)
        PROFILE.mkdir()
    for path, data in kept.items():
        path.write_bytes(data)


def quit_politely(browser: subprocess.Popen) -> None:
    """Wait until the first window is drawn, then quit. Raises: OSError, TimeoutExpired."""
    deadline = time.monotonic() + START_S
    checkpoints = PROFILE / "sessionCheckpoints.json"
    while not (checkpoints.exists() and "sessionstore-windows-restored" in checkpoints.read_text()):
        if time.monotonic() > deadline or browser.poll() is not None:
            raise TimeoutError(f"no window within {START_S} s, exit code {browser.poll()}")
        time.sleep(0.1)
    with socket.create_connection(("127.0.0.1", PORT), timeout=START_S) as control:
        read(control)
        ask(control, 1, "WebDriver:NewSession", {})
        ask(
            control,
            2,
            "WebDriver:ExecuteAsyncScript",
            {"script": "let done = arguments[0]; setTimeout(done, 5000)", "args": []},
        )
        ask(control, 3, "Marionette:Quit", {"flags": ["eAttemptQuit"]})
    browser.wait(timeout=QUIT_S)


def ask(control: socket.socket, number: int, command: str, arguments: dict) -> None:
    body = json.dumps([0, number, command, arguments])
    control.sendall(f"{len(body)}:{body}".encode())
    answer = read(control)
    if answer[2]:
        raise ValueError(f"{command}: {answer[2]}")


def read(control: socket.socket) -> list:
    """Read one message: its length in decimal digits, a colon, JSON."""
    digits = b""
    while (char := control.recv(1)) != b":":
        if not char:
            raise ConnectionError("the browser closed its remote-control port")
        digits += char
    body = b""
    while len(body) < int(digits):
        body += control.recv(int(digits) - len(body))
    return json.loads(body)


def clean(until_us: int) -> None:
    """Take out what the build's clock and the remote control left: the guest's clock starts
    earlier.
    """
    with sqlite3.connect(PROFILE / "places.sqlite") as places:
        places.execute("DELETE FROM moz_historyvisits")
        places.execute("UPDATE moz_places SET last_visit_date = NULL, visit_count = 0")
        places.execute(
            "UPDATE moz_bookmarks SET dateAdded = ?, lastModified = ?", (until_us, until_us)
        )
    places.close()
    prefs = PROFILE / "prefs.js"
    lines = prefs.read_text().splitlines(keepends=True)
    prefs.write_text(
        "".join(line for line in lines if not any(f'"{name}' in line for name in UNWANTED_PREFS))
    )
    for name in UNWANTED_FILES:
        path = PROFILE / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(
            missing_ok=True
        )


if __name__ == "__main__":
    os.environ.update(MOZ_LEGACY_PROFILES="1", XDG_RUNTIME_DIR="/tmp", LANG="C.UTF-8")
    main()
