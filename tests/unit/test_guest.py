"""The guest channel: the host's end against a hostile peer, and the daemon with a real tmux, both
without a VM.
"""

from __future__ import annotations

import json
import os
import pwd
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harmgym.errors import ActionError, GuestError, GuestTimeout
from harmgym.machines.guest.channel import MAX_FRAME, SYNC
from harmgym.machines.guest.client import GuestChannel
from harmgym.machines.protocol import JournalEntry
from harmgym.paths import content

GUEST = content("vm_images") / "guest"


def frame(message: Any) -> bytes:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return len(body).to_bytes(4, "big") + body


class Peer:
    """The other end of a channel, in the hands of the test."""

    def __init__(self) -> None:
        near, self.sock = socket.socketpair()
        self.sock.settimeout(10)
        self.channel = GuestChannel(near, "peer")

    def request(self) -> dict[str, Any]:
        size = int.from_bytes(self.sock.recv(4, socket.MSG_WAITALL), "big")
        return dict(json.loads(self.sock.recv(size, socket.MSG_WAITALL)))

    def answer(self, answer: Callable[[dict[str, Any]], bytes]) -> threading.Thread:
        """Answer the next request by the bytes that `answer` makes of it."""
        thread = threading.Thread(
            target=lambda: self.sock.sendall(answer(self.request())), daemon=True
        )
        thread.start()
        return thread


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.channel.close()
    peer.sock.close()


def ok(request: dict[str, Any], result: Any) -> bytes:
    return frame({"id": request["id"], "ok": True, "result": result})


# The host's end


def test_a_reply_belongs_to_its_request_and_stale_ones_are_dropped(peer: Peer) -> None:
    stale = frame({"id": 7, "ok": True, "result": "from before the snapshot"})
    peer.answer(lambda request: stale + ok(request, {"pid": 1}) + ok(request, {"pid": 2}))
    assert peer.channel.ping() == {"pid": 1}
    peer.answer(lambda request: ok(request, {"pid": 3}))
    assert peer.channel.ping() == {"pid": 3}


def test_replies_may_come_in_another_order(peer: Peer) -> None:
    results: dict[str, Any] = {}
    threads = [
        threading.Thread(target=lambda op=op: results.update({op: peer.channel.call(op)}))
        for op in ("first", "second")
    ]
    for thread in threads:
        thread.start()
    requests = sorted(
        (peer.request() for _ in threads), key=lambda request: str(request["op"]), reverse=True
    )
    for request in requests:
        peer.sock.sendall(ok(request, request["op"] * 2))
    for thread in threads:
        thread.join(5)
    assert results == {"first": "firstfirst", "second": "secondsecond"}


def test_a_call_without_answer_times_out_and_says_what_was_seen(peer: Peer) -> None:
    peer.sock.sendall(frame({"event": "hello", "pid": 42}))
    peer.channel.wait_journal(lambda entry: entry.data["what"] == "guest_opened", 5)
    began = time.monotonic()
    with pytest.raises(GuestTimeout, match=r"'ping' within 0\.2 s.*hello"):
        peer.channel.ping(timeout_s=0.2)
    assert 0.2 <= time.monotonic() - began < 2


def test_a_silent_daemon_is_not_waited_for_as_long_as_the_call_may_take(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harmgym.machines.guest.channel.LISTEN_S", 0.2)
    monkeypatch.setattr("harmgym.machines.guest.channel.SILENCE_S", 0.4)
    began = time.monotonic()
    with pytest.raises(GuestTimeout, match="no answer to 'shell'"):
        peer.channel.request("shell", 60.0, {})
    assert 0.5 <= time.monotonic() - began < 10
    assert [peer.request()["op"], peer.request()["op"]] == ["shell", "ping"]


def test_a_daemon_that_gives_signs_of_life_is_waited_for(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harmgym.machines.guest.channel.LISTEN_S", 0.2)
    monkeypatch.setattr("harmgym.machines.guest.channel.SILENCE_S", 5.0)

    def busy() -> None:
        asked = peer.request()
        for _ in range(3):  # each is a ping, asked while the command goes on
            peer.sock.sendall(ok(peer.request(), {}))
        peer.sock.sendall(ok(asked, "at last"))

    threading.Thread(target=busy, daemon=True).start()
    assert peer.channel.request("shell", 60.0, {}) == "at last"


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"9" * 30])
def test_a_number_beyond_bounds_is_no_answer(peer: Peer, number: bytes) -> None:
    peer.answer(
        lambda request: frame(b'{"id": %d, "ok": true, "result": ' % request["id"] + number + b"}")
    )
    with pytest.raises(GuestError, match="not JSON"):
        peer.channel.ping()


def test_half_a_surrogate_pair_is_written_out(peer: Peer) -> None:
    peer.answer(lambda request: ok(request, {"caf\udce9": ["\ud800"]}))
    assert peer.channel.ping() == {"caf\\udce9": ["\\ud800"]}


def test_an_error_of_the_guest_is_told(peer: Peer) -> None:
    peer.answer(
        lambda request: frame(
            {"id": request["id"], "ok": False, "kind": "os", "error": "no such file"}
        )
    )
    with pytest.raises(GuestError, match="'get' failed .*os: no such file"):
        peer.channel.get("/nowhere")


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        ((MAX_FRAME + 1).to_bytes(4, "big"), "frame of 16777217 bytes"),
        (frame(b"{broken"), "not JSON"),
        (frame(b'{"id": 1, "ok": true, "result": NaN}'), "not JSON"),
        (frame(b'{"id": 1, "ok": true, "result": "\xff"}'), "not JSON"),
        (frame(b"[" * 5000 + b"]" * 5000), "not JSON"),
        (frame({"id": 1, "ok": True, "result": json.loads("[" * 80 + "]" * 80)}), "depth"),
        (frame([1, 2]), "no object"),
        (frame({"id": "1", "ok": True}), "without 'id' or 'ok'"),
        (frame({"id": 1, "ok": "yes"}), "without 'id' or 'ok'"),
        (b"\0\0\0\0" + b"x" * 12, "empty frame"),
    ],
)
def test_what_is_no_frame_breaks_the_channel_and_is_recorded(
    peer: Peer, sent: bytes, why: str
) -> None:
    pending = threading.Thread(target=lambda: pytest.raises(GuestError, peer.channel.ping))
    pending.start()
    peer.request()
    peer.sock.sendall(sent)
    pending.join(5)
    assert not pending.is_alive()
    with pytest.raises(GuestError, match=why):
        peer.channel.ping()
    assert peer.channel.journal[-1].data["what"] == "protocol_error"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(st.binary(max_size=60), st.binary(max_size=40).map(frame), st.just(SYNC)),
        max_size=8,
    )
)
def test_no_bytes_of_the_guest_stop_the_reader_unnoticed(pieces: list[bytes]) -> None:
    peer = Peer()
    try:
        for piece in pieces:
            try:
                peer.sock.sendall(piece)
            except BrokenPipeError:
                break
        peer.sock.close()
        with pytest.raises(GuestError):  # whatever was said, the end is noticed at once
            peer.channel.ping(timeout_s=5)
        assert not peer.channel.open
    finally:
        peer.channel.close()


@pytest.mark.parametrize(
    ("op", "result"),
    [
        ("shell", {"status": 0, "text": 3}),
        (
            "shell",
            {"status": "0", "text": "", "finished": True, "interrupted": False, "truncated": False},
        ),
        (
            "execute",
            {
                "status": 0,
                "stdout_b64": "!",
                "stderr_b64": "",
                "timed_out": False,
                "truncated": False,
            },
        ),
        ("execute", [1]),
        ("terminal", {"text": None}),
        ("units", {"a": 1}),
        ("units", [{"unit": "a.service"}]),
        ("processes", [{"pid": "x"}]),
        ("processes", 3),
    ],
)
def test_a_misshaped_answer_is_a_guest_error(peer: Peer, op: str, result: Any) -> None:
    peer.answer(lambda request: ok(request, result))
    arguments = ["true"] if op in ("shell", "execute") else []
    with pytest.raises(GuestError, match="misshaped"):
        getattr(peer.channel, op)(*arguments)


def test_every_pending_call_fails_at_once_when_the_machine_goes_away(peer: Peer) -> None:
    errors: list[GuestError] = []

    def wait() -> None:
        try:
            peer.channel.ping(timeout_s=60)
        except GuestError as err:
            errors.append(err)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in threads:
        peer.request()
    peer.sock.close()
    for thread in threads:
        thread.join(5)
    assert len(errors) == 3 and "the machine has closed it" in str(errors[0])


def test_close_is_idempotent_and_ends_the_reader(peer: Peer) -> None:
    peer.channel.close()
    peer.channel.close()
    assert not any(
        thread.name == "guest-peer" and thread.is_alive() for thread in threading.enumerate()
    )
    with pytest.raises(GuestError, match="closed by the host"):
        peer.channel.ping()


def test_a_killed_daemon_is_recorded_and_calls_work_once_it_is_back(peer: Peer) -> None:
    peer.sock.sendall(SYNC + frame({"event": "hello", "pid": 10, "t": 1.5}))
    peer.channel.wait_journal(lambda entry: entry.data["what"] == "guest_opened", 5)
    pending = threading.Thread(
        target=lambda: pytest.raises(GuestError, peer.channel.ping, timeout_s=60)
    )
    pending.start()
    peer.request()
    peer.channel.note_guest_closed(12.0)
    pending.join(5)
    assert not pending.is_alive() and peer.channel.guest_closed
    half = frame({"id": 1, "ok": True, "result": "x" * 1000})[
        :500
    ]  # the daemon died while it sent this
    peer.sock.sendall(half + SYNC + frame({"event": "hello", "pid": 11, "t": 2.5}))
    entry = peer.channel.wait_journal(lambda entry: entry.data["what"] == "guest_reopened", 5)
    assert (entry.pid, entry.t_guest, entry.source) == (11, 2.5, "channel")
    assert [entry.data["what"] for entry in peer.channel.journal] == [
        "guest_opened",
        "guest_closed",
        "guest_reopened",
    ]
    assert not peer.channel.guest_closed
    peer.answer(lambda request: ok(request, {"pid": 11}))
    assert peer.channel.ping() == {"pid": 11}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_beginning_of_a_frame_is_found_again_wherever_a_daemon_died(
    data: st.DataObject,
) -> None:
    old = frame({"id": 1, "ok": True, "result": data.draw(st.text(max_size=200))})
    stream = old[: data.draw(st.integers(0, len(old)))] + SYNC + frame({"event": "hello", "pid": 5})
    peer = Peer()
    try:
        while stream:
            size = data.draw(st.integers(1, len(stream)))
            peer.sock.sendall(stream[:size])
            stream = stream[size:]
        assert peer.channel.wait_journal(lambda entry: entry.source == "channel", 5).pid == 5
    finally:
        peer.channel.close()
        peer.sock.close()


def test_the_journal_keeps_order_sender_and_times(peer: Peer) -> None:
    before = time.monotonic()
    for number in range(3):
        peer.sock.sendall(
            frame(
                {
                    "event": "journal",
                    "app": "mail",
                    "uid": 990,
                    "pid": 7,
                    "t": 3.5,
                    "entry": {"number": number},
                }
            )
        )
    program = {
        "what": "exec",
        "t": 4.0,
        "pid": 9,
        "ppid": 7,
        "uid": 0,
        "cmdline": ["rm", "-rf", "/x"],
    }
    peer.sock.sendall(
        frame({"event": "process", "t": 4.1, "events": [program, "junk"], "dropped": 2})
    )
    last = peer.channel.wait_journal(lambda entry: entry.data.get("what") == "dropped", 5)
    journal = peer.channel.journal
    assert [entry.seq for entry in journal] == [0, 1, 2, 3, 4] and last.data["count"] == 2
    assert [entry.data for entry in journal[:3]] == [{"number": 0}, {"number": 1}, {"number": 2}]
    assert (journal[0].source, journal[0].uid, journal[0].pid, journal[0].t_guest) == (
        "app:mail",
        990,
        7,
        3.5,
    )
    assert (journal[3].source, journal[3].uid, journal[3].pid) == ("process", 0, 9)
    assert before <= journal[0].t_host <= journal[4].t_host <= time.monotonic()


def test_waiting_for_an_entry_that_never_comes_says_what_came_last(peer: Peer) -> None:
    peer.sock.sendall(frame({"event": "journal", "app": "blog", "entry": {"what": "post"}}))
    with pytest.raises(GuestTimeout, match="last of 1.*post"):
        peer.channel.wait_journal(lambda entry: entry.data.get("what") == "delete", 0.3)


@pytest.mark.parametrize("character", ["\0", "\x03", "\x1b", "\r", "\x7f", "\x9b", "\ud800"])
def test_a_character_that_cannot_be_typed_is_named(peer: Peer, character: str) -> None:
    with pytest.raises(ActionError) as caught:
        peer.channel.shell(f"echo {character}")
    assert repr(character) in str(caught.value)


# The daemon, with the tmux of this computer


class Guest:
    """The daemon as a child of the test, with folders and a tmux server of its own."""

    def __init__(self, folder: Path) -> None:
        self.socket = (
            Path(os.environ.get("TMUX_TMPDIR", "/tmp"))
            / f"tmux-{os.getuid()}"
            / f"harmgym-test-{time.monotonic_ns()}"
        )
        self.folder, self.label = folder, self.socket.name
        rc = folder / "bashrc"
        hook = shlex.quote(str(GUEST / "etc" / "harmgym-bashrc"))
        rc.write_text(f"PS1='$ '\nHARMGYM_PROMPT_PIPE={folder}/prompt\n. {hook}\n")
        self.shell = f"exec bash --noprofile --rcfile {rc} -i"
        # Like a desktop's session, started before the daemon by somebody else.
        self.tmux(
            "-f",
            str(GUEST / "etc" / "tmux.conf"),
            "new-session",
            "-d",
            "-s",
            "main",
            "-x",
            "100",
            "-y",
            "28",
            self.shell,
        )
        near, far = socket.socketpair()
        arguments = [
            "--run-dir",
            folder,
            "--tmux-label",
            self.label,
            "--uid",
            os.getuid(),
            "--shell",
            self.shell,
        ]
        with far:
            daemon = [
                sys.executable,
                "-I",
                "-B",
                "-u",
                GUEST / "guestd",
                "--fd",
                far.fileno(),
                *arguments,
            ]
            self.process = subprocess.Popen(
                [str(word) for word in daemon], pass_fds=[far.fileno()], cwd="/"
            )
        self.channel = GuestChannel(near, "daemon")
        self.hello = self.channel.wait_journal(
            lambda entry: entry.data.get("what") == "guest_opened", 20
        ).data
        assert self.channel.wait_terminal(cap_s=10)

    def tmux(self, *arguments: str) -> str:
        command = ["tmux", "-L", self.label, *arguments]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=10
        ).stdout

    def stop(self) -> None:
        self.channel.close()
        self.process.kill()
        self.process.wait()
        subprocess.run(["tmux", "-L", self.label, "kill-server"], capture_output=True, timeout=10)
        self.socket.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    if shutil.which("tmux") is None:
        pytest.skip("needs tmux on this computer: apt-get install tmux")
    guest = Guest(tmp_path_factory.mktemp("guest"))
    yield guest
    guest.stop()


@pytest.fixture
def terminal(guest: Guest) -> GuestChannel:
    """The channel with an empty screen and the shell at its prompt."""
    result = guest.channel.shell("clear")
    assert result.finished and result.status == 0, result
    return guest.channel


def test_ping_names_the_daemon(guest: Guest) -> None:
    answer = guest.channel.ping()
    assert answer["pid"] == guest.process.pid == guest.hello["pid"]
    assert answer["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_an_idle_daemon_uses_no_processor_time(guest: Guest) -> None:
    def cpu() -> tuple[str, ...]:
        return tuple(
            Path(f"/proc/{guest.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        )

    def wakes() -> int:
        status = Path(f"/proc/{guest.process.pid}/status").read_text()
        return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    guest.channel.journal_processes(False)  # this computer is busy with other things
    try:
        guest.channel.ping()
        before, woken = cpu(), wakes()
        threading.Event().wait(1.0)
        assert cpu() == before and wakes() - woken <= 1  # it may just be going to sleep
    finally:
        guest.channel.journal_processes(True)


def test_execute_gives_status_and_outputs_and_runs_beside_other_calls(guest: Guest) -> None:
    result = guest.channel.execute("echo out; echo err >&2; exit 3")
    assert (result.status, result.stdout, result.stderr) == (3, b"out\n", b"err\n")
    assert guest.channel.execute(["cat"], stdin=b"\0\xff" * 200_000).stdout == b"\0\xff" * 200_000
    slow = threading.Thread(target=lambda: guest.channel.execute("sleep 2"))
    slow.start()
    began = time.monotonic()
    guest.channel.ping()
    assert time.monotonic() - began < 1
    slow.join()


def test_execute_kills_the_whole_group_at_its_deadline(guest: Guest) -> None:
    marker = f"sleep 98.{os.getpid()}"
    began = time.monotonic()
    result = guest.channel.execute(f"echo begun; {marker} & {marker}", timeout_s=0.5)
    assert (
        result.timed_out
        and result.status == -9
        and result.stdout == b"begun\n"
        and time.monotonic() - began < 3
    )
    deadline = time.monotonic() + 10
    while left := [
        p for p in guest.channel.processes() if " ".join(p.cmdline) == marker and p.state != "Z"
    ]:
        assert time.monotonic() < deadline, left


def test_execute_does_not_wait_for_what_a_command_leaves_behind(guest: Guest) -> None:
    began = time.monotonic()
    result = guest.channel.execute("sleep 5 & echo done")
    assert result.stdout == b"done\n" and time.monotonic() - began < 3


def test_endless_output_of_execute_is_bounded(guest: Guest) -> None:
    result = guest.channel.execute("yes", timeout_s=0.5, max_bytes=5000)
    assert result.truncated and result.timed_out and len(result.stdout) == 5000


def test_a_program_that_is_not_there_is_a_status_as_in_a_shell(guest: Guest) -> None:
    result = guest.channel.execute(["/no/such/program"])
    assert result.status == 127 and b"/no/such/program" in result.stderr


def test_succeed_fail_and_wait_until_succeeds_do_what_they_promise(guest: Guest) -> None:
    channel, flag = guest.channel, shlex.quote(str(guest.folder / "flag"))
    assert channel.succeed("echo yes") == "yes\n"
    with pytest.raises(GuestError, match="status 4; stdout: a; stderr: b"):
        channel.succeed("echo a; echo b >&2; exit 4")
    channel.fail("false")
    with pytest.raises(GuestError, match="should fail"):
        channel.fail("true")
    channel.succeed(f"(sleep 0.5; touch {flag}) > /dev/null 2>&1 &")
    channel.wait_until_succeeds(f"test -e {flag}", timeout_s=10)
    with pytest.raises(GuestTimeout, match="no-such.*within 0.4 s; it last ended with status 1"):
        channel.wait_until_succeeds("test -e /no-such", timeout_s=0.4)


def test_python_runs_in_a_fork_and_gives_json(guest: Guest) -> None:
    source = (
        "import os, sqlite3\ndef main(x, y=1):\n    os.environ['LEAK'] = '1'\n"
        "    return {'sum': x + y, 'pid': os.getpid()}"
    )
    result = guest.channel.run_python(source, {"x": 2})
    assert result["sum"] == 3 and result["pid"] != guest.process.pid
    assert guest.channel.run_python("import os\ndef main(): return os.environ.get('LEAK')") is None


def test_python_errors_come_back_with_the_line(guest: Guest) -> None:
    with pytest.raises(GuestError, match=r"(?s)return 1 / 0.*ZeroDivisionError"):
        guest.channel.run_python("def main():\n    return 1 / 0")
    with pytest.raises(GuestError, match="defines no function main"):
        guest.channel.run_python("x = 1")
    with pytest.raises(GuestError, match="did not finish within 0.3 s"):
        guest.channel.run_python("def main():\n    while True: pass", timeout_s=0.3)
    with pytest.raises(GuestError, match="not JSON serializable"):
        guest.channel.run_python("def main(): return {1, 2}")
    guest.channel.ping()


def test_python_takes_no_code_from_the_disk(guest: Guest) -> None:
    with pytest.raises(GuestError, match="switched off"):
        guest.channel.run_python("import antigravity\ndef main(): return 1")


def test_files_go_there_and_back(guest: Guest, tmp_path: Path) -> None:
    data = os.urandom(9_000_000)
    path = tmp_path / "a" / "b" / "file"
    guest.channel.put(str(path), data, mode=0o640, owner=pwd.getpwuid(os.getuid()).pw_name)
    assert path.read_bytes() == data and path.stat().st_mode & 0o7777 == 0o640
    assert guest.channel.get(str(path), max_bytes=20_000_000) == data
    assert guest.channel.get(str(path), max_bytes=100) == data[:100]
    guest.channel.put(str(path), b"")
    assert path.read_bytes() == b""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(GuestError, match="not a regular file"):
        guest.channel.get(str(tmp_path / "fifo"))
    with pytest.raises(GuestError, match="No such file"):
        guest.channel.get(str(tmp_path / "missing"))


def test_processes_are_as_the_kernel_says(guest: Guest) -> None:
    child = subprocess.Popen(["sleep", "30"])
    try:
        found = {process.pid: process for process in guest.channel.processes()}
        mine, parent = found[child.pid], found[os.getpid()]
        assert (mine.ppid, mine.uid, mine.cmdline, mine.comm) == (
            os.getpid(),
            os.getuid(),
            ("sleep", "30"),
            "sleep",
        )
        assert mine.exe == os.path.realpath(str(shutil.which("sleep")))
        assert mine.state in "SRD", "asleep, or on a busy host still on its way there"
        assert parent.start_s < mine.start_s and parent.cpu_s > 0
    finally:
        child.kill()
        child.wait()


def test_shell_gives_status_and_what_the_terminal_shows(terminal: GuestChannel) -> None:
    result = terminal.shell("echo hello; false")
    assert (
        result.status == 1 and result.finished and not result.interrupted and not result.truncated
    )
    assert result.text == "$ echo hello; false\nhello\n$"
    assert terminal.terminal().endswith(result.text)
    assert terminal.shell("echo $?").text == "$ echo $?\n1\n$"  # the hook leaves the status alone


def test_the_terminal_window_shows_the_same(guest: Guest, terminal: GuestChannel) -> None:
    terminal.shell("echo seen twice")
    assert "seen twice\n" in guest.tmux("capture-pane", "-p", "-t", "main:")


@pytest.mark.parametrize(
    "command",
    [
        "echo 'a;' ;",
        "echo '-l'",
        "echo \"$HOME\" '#{pid} %1 {x} ~' `echo x` \\\\",
        "echo é ü 漢字 🙂",
        'echo "it\'s" | cat',
        "# comment",
        "",
    ],
)
def test_text_is_typed_as_it_stands(terminal: GuestChannel, command: str) -> None:
    expected = subprocess.run(["bash", "-c", command], capture_output=True, text=True).stdout
    result = terminal.shell(command)
    assert result.status == 0 and result.text == f"$ {command}".rstrip() + "\n" + expected + "$"


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=60), st.booleans())
def test_any_text_arrives_exactly(guest: Guest, text: str, many_lines: bool) -> None:
    text = text + "\nsecond\tline" if many_lines else text
    path = guest.folder / "typed"
    result = guest.channel.shell(
        f"printf %s {shlex.quote(text)} > {shlex.quote(str(path))}", timeout_s=10
    )
    assert result.status == 0 and path.read_text() == text


def test_many_lines_are_one_command(terminal: GuestChannel) -> None:
    result = terminal.shell(
        "for i in 1 2; do\n\techo line $i\ndone\nsleep 0.3 &\nwait\ncat <<X\nlast\tone\nX\n(exit 5)"
    )
    assert result.status == 5 and result.finished
    assert "\nline 1\nline 2\n" in result.text and result.text.endswith("last    one\n$")


def test_a_long_line_is_joined_again(terminal: GuestChannel) -> None:
    assert f"\n{'x' * 750}\n" in terminal.shell("printf 'x%.0s' {1..750}; echo").text
    long = "echo " + "y" * 600
    assert terminal.shell(long).text == f"$ {long}\n{'y' * 600}\n$"


def test_long_output_is_cut_in_the_middle(terminal: GuestChannel) -> None:
    result = terminal.shell("seq 1 2000", max_chars=1000)
    lines = result.text.splitlines()
    assert result.truncated and len(result.text) <= 1000
    assert lines[:3] == ["$ seq 1 2000", "1", "2"] and lines[-2:] == ["2000", "$"]
    at = next(index for index, line in enumerate(lines) if "lines cut" in line)
    assert int(lines[at].split()[1]) == int(lines[at + 1]) - int(lines[at - 1]) - 1


def test_output_longer_than_the_terminal_keeps_shows_its_end(terminal: GuestChannel) -> None:
    result = terminal.shell("seq 1 100000", timeout_s=30, max_chars=1000)
    assert result.truncated and result.status == 0
    assert result.text.startswith("[... more than") and result.text.endswith("99999\n100000\n$")


def test_one_huge_line_is_cut(terminal: GuestChannel) -> None:
    result = terminal.shell(
        "head -c 60000 /dev/zero | tr '\\0' z; echo", timeout_s=30, max_chars=2000
    )
    assert (
        result.truncated
        and len(result.text) <= 2000
        and "characters cut" in result.text
        and result.text.endswith("z\n$")
    )


def test_a_command_that_never_returns_is_interrupted(terminal: GuestChannel) -> None:
    result = terminal.shell("sleep 1000", timeout_s=0.5)
    assert (
        result.interrupted
        and result.finished
        and result.status == 130
        and 0.5 <= result.seconds < 3
    )
    assert result.text.endswith("[harmgym: still running after 0.5 s; sent Ctrl-C]")
    assert terminal.shell("echo next").text == "$ echo next\nnext\n$"


def test_a_command_that_ignores_ctrl_c_is_quit(terminal: GuestChannel) -> None:
    result = terminal.shell("sh -c 'trap \"\" INT; sleep 1000'", timeout_s=0.3)
    assert result.interrupted and result.finished and result.status == 131
    assert terminal.shell("echo next").text == "$ echo next\nnext\n$"


def test_a_command_that_ignores_everything_is_reported(terminal: GuestChannel) -> None:
    result = terminal.shell("sh -c 'trap \"\" INT QUIT; sleep 4'", timeout_s=0.3)
    assert (
        result.interrupted
        and not result.finished
        and result.status is None
        and "did not end it" in result.text
    )
    assert terminal.wait_terminal(quiet_s=10, cap_s=10)


def test_endless_output_is_interrupted_and_cut(terminal: GuestChannel) -> None:
    result = terminal.shell("yes", timeout_s=1, max_chars=2000)
    assert (
        result.interrupted
        and result.finished
        and result.truncated
        and "\ny\ny\n" in result.text
        and len(result.text) < 2200
    )
    assert terminal.shell("echo next").text.endswith("$ echo next\nnext\n$")


def test_binary_output_leaves_a_terminal_that_works(guest: Guest, terminal: GuestChannel) -> None:
    junk = guest.folder / "junk"
    junk.write_bytes(
        bytes(range(256)) * 40
        + b"\x1b[?1049h\x1b)0\x0e\x1b[4h\x1b[?25l\x1b[?1003h\x1b]2;half a title"
    )
    assert terminal.shell(f"cat {shlex.quote(str(junk))}").status == 0
    terminal.shell("clear")
    assert terminal.shell("echo fine").text == "$ echo fine\nfine\n$"
    modes = "#{alternate_on}#{insert_flag}#{mouse_any_flag}#{cursor_flag}"
    assert guest.tmux("display-message", "-p", "-t", "main:", modes).strip() == "0001"
    assert terminal.shell("head -c 100000 /bin/ls", timeout_s=20).status == 0
    terminal.shell("clear")
    assert terminal.shell("echo fine").text == "$ echo fine\nfine\n$"


def test_a_program_that_waits_for_input_is_said_to_do_so(terminal: GuestChannel) -> None:
    result = terminal.shell("cat", timeout_s=20)
    assert (
        not result.finished
        and not result.interrupted
        and result.status is None
        and result.seconds < 5
    )
    assert "waits for input" in result.text
    assert terminal.shell("some line", timeout_s=20).text.startswith("some line\nsome line\n")
    terminal.interrupt()
    assert terminal.wait_terminal(quiet_s=5, cap_s=5)
    assert terminal.shell("echo next").status == 0


def test_a_program_that_waits_for_the_network_is_waited_for(terminal: GuestChannel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            client = server.accept()[0]
            time.sleep(0.8)  # as long as a slow server takes
            client.sendall(b"late")
            client.close()

        threading.Thread(target=answer, daemon=True).start()
        code = f"import socket; print(socket.create_connection(('127.0.0.1', {port})).recv(9))"
        result = terminal.shell(f'{sys.executable} -c "{code}"', timeout_s=20)
    assert result.finished and result.status == 0 and "b'late'" in result.text


def test_a_command_is_typed_even_while_somebody_scrolls_back(
    guest: Guest, terminal: GuestChannel
) -> None:
    guest.tmux("copy-mode", "-t", "main:")
    assert terminal.shell("echo here", timeout_s=10).text == "$ echo here\nhere\n$"


def test_another_program_is_typed_into(terminal: GuestChannel) -> None:
    assert not terminal.shell(f"{sys.executable} -q", timeout_s=20).finished
    assert terminal.shell("6 * 7", timeout_s=20).text.startswith(">>> 6 * 7\n42\n>>>")
    result = terminal.shell("exit(3)", timeout_s=20)
    assert result.finished and result.status == 3


def test_a_pager_whose_feeder_has_ended_is_said_to_wait(terminal: GuestChannel) -> None:
    result = terminal.shell("seq 1 500 | less", timeout_s=20)
    assert (
        not result.finished
        and not result.interrupted
        and result.seconds < 10
        and "waits for input" in result.text
    )
    assert terminal.shell("q", timeout_s=20).finished


def test_half_a_command_waits_for_the_rest(terminal: GuestChannel) -> None:
    assert not terminal.shell("echo 'half", timeout_s=20).finished
    result = terminal.shell("whole'", timeout_s=20)
    assert result.finished and result.status == 0 and "\nhalf\nwhole\n" in result.text


def test_a_shell_without_the_hook_ends_by_being_quiet(terminal: GuestChannel) -> None:
    assert terminal.shell("sh", timeout_s=20).finished
    result = terminal.shell("echo inner", timeout_s=20)
    assert result.finished and result.status is None and "\ninner\n" in result.text
    assert terminal.shell("exit", timeout_s=20).status == 0


def test_a_prompt_command_of_the_user_does_not_undo_the_hook(terminal: GuestChannel) -> None:
    assert terminal.shell("PROMPT_COMMAND='echo mine'").status == 0
    result = terminal.shell("(exit 9)")
    assert result.status == 9 and "mine" in result.text
    terminal.shell("PROMPT_COMMAND=")


def test_a_background_job_does_not_hold_the_command(terminal: GuestChannel) -> None:
    result = terminal.shell("sleep 30 &", timeout_s=10)
    assert result.status == 0 and result.seconds < 5
    assert terminal.shell("kill %1; wait", timeout_s=10).finished


def test_exit_gives_a_new_shell_and_says_so(guest: Guest, terminal: GuestChannel) -> None:
    terminal.shell("mark=1")
    result = terminal.shell("exit", timeout_s=20)
    assert result.status is None and "a new one was started" in result.text
    assert terminal.shell("echo mark=$mark").text.endswith("\nmark=\n$")


def test_a_dead_pane_that_tmux_was_told_to_keep_is_started_again(guest: Guest) -> None:
    guest.tmux("set-hook", "-gu", "pane-died")
    result = guest.channel.shell("exit", timeout_s=20)
    assert result.status is None and "a new one was started" in result.text
    assert guest.channel.shell("echo alive", timeout_s=20).status == 0
    guest.tmux("set-hook", "-g", "pane-died", "respawn-pane")


def test_a_terminal_that_cannot_be_started_is_no_fault_of_the_machine(guest: Guest) -> None:
    """The agent may end tmux and take away what starts it: that is told as text, and calls go on
    working.
    """
    server, socket_path = int(guest.tmux("display-message", "-p", "#{pid}")), guest.socket
    guest.channel.shell(
        f"rm {socket_path}; mkdir {socket_path}; tmux -L {guest.label} detach-client -a",
        timeout_s=2,
    )
    subprocess.run(["pkill", "-KILL", "-P", str(guest.process.pid)], check=False)
    try:
        deadline = time.monotonic() + 20
        while (
            result := guest.channel.shell("echo unheard", timeout_s=5)
        ).finished and time.monotonic() < deadline:
            pass  # tmux has yet to notice that its client is gone
        assert not result.finished and result.status is None and "cannot be reached" in result.text
        assert "cannot be reached" in guest.channel.terminal()
        guest.channel.ping()
    finally:
        socket_path.rmdir()
        os.kill(server, signal.SIGKILL)
    assert any(guest.channel.shell("echo again", timeout_s=20).status == 0 for _ in range(3))


def test_a_stopped_terminal_is_ended_and_comes_back(guest: Guest) -> None:
    server = int(guest.tmux("display-message", "-p", "#{pid}"))
    os.kill(server, signal.SIGSTOP)
    result = guest.channel.shell("echo stuck", timeout_s=5)
    assert "stuck" not in result.text and result.status is None
    assert guest.channel.shell("echo alive", timeout_s=20).text.startswith("$ echo alive\nalive\n$")
    assert not [
        process
        for process in guest.channel.processes()
        if process.pid == server and process.state != "Z"
    ]


def test_a_killed_terminal_comes_back(guest: Guest) -> None:
    result = guest.channel.shell(f"tmux -L {guest.label} kill-server", timeout_s=20)
    assert result.status is None and "a new one was started" in result.text
    after = guest.channel.shell("echo back")
    assert after.status == 0 and after.text.endswith("$ echo back\nback\n$")


def test_lines_of_apps_arrive_with_their_sender(guest: Guest) -> None:
    last = guest.channel.journal[-1].seq
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sock:
        for message in (
            b'{"app": "mail", "what": "sent", "to": "a@b"}',
            b"no json",
            b"[1]",
            b'{"what": "x"}',
        ):
            sock.sendto(message, str(guest.folder / "journal.sock"))

    def by_app(entry: JournalEntry) -> bool:
        return entry.source == "app:unknown"

    guest.channel.wait_journal(by_app, 5, after=last)
    entries = [
        entry
        for entry in guest.channel.journal
        if entry.seq > last and entry.source.startswith("app:")
    ]
    assert [(entry.source, entry.data) for entry in entries] == [
        ("app:mail", {"what": "sent", "to": "a@b"}),
        ("app:unknown", {"what": "x"}),
    ]
    assert {(entry.uid, entry.pid) for entry in entries} == {(os.getuid(), os.getpid())}
    dropped = [
        entry.data for entry in guest.channel.journal if entry.data.get("what") == "journal_dropped"
    ]
    assert dropped and dropped[0]["dropped"] == 1


def test_a_line_of_a_connection_says_who_wrote_it_and_a_datagram_does_not(guest: Guest) -> None:
    last = guest.channel.journal[-1].seq
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as app:
        app.connect(str(guest.folder / "apps.sock"))
        app.send(b'{"app": "mail", "what": "first"}')
        sender = (
            "import socket, sys as s; socket.socket(fileno=int(s.argv[1])).send(s.argv[2].encode())"
        )
        lent = [sys.executable, "-c", sender, str(app.fileno()), '{"app": "mail", "what": "lent"}']
        subprocess.run(lent, check=True, pass_fds=[app.fileno()])
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as anybody:
            said = b'{"app": "mail", "what": "datagram"}'
            anybody.sendto(said, str(guest.folder / "journal.sock"))
        guest.channel.wait_journal(lambda e: e.data.get("what") == "datagram", 5, after=last)
        app.send(b'{"app": "mail", "what": "last"}')
        guest.channel.wait_journal(lambda e: e.data.get("what") == "last", 5, after=last)
    lines = [e for e in guest.channel.journal if e.seq > last and e.source == "app:mail"]
    found = {entry.data["what"]: entry.writer for entry in lines}
    assert [found["lent"], found["datagram"]] == [None, None]
    for what in ("first", "last"):
        writer = found[what]
        assert writer is not None and writer.pid == os.getpid()
        assert writer.exe == os.readlink("/proc/self/exe")
        assert writer.exe in writer.mapped and writer.cmdline[0]
        assert not any(word.startswith("INVOCATION_ID=") for word in writer.environment)


def test_a_survey_tells_what_is_alive_and_where_it_listens(guest: Guest) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = guest.channel.survey()
    me = next(process for process in found.processes if process.pid == os.getpid())
    assert me.exe == os.readlink("/proc/self/exe") and me.session == os.getsid(0)
    assert f"127.0.0.1:{port}" in {one.at for one in found.listeners if one.protocol == "tcp"}
    assert "/" in {mount.path for mount in found.mounts}
    assert "lo" in {link.name for link in found.links if link.up}
    assert "127.0.0.1" in found.addresses
    assert found.kernel["kernel/hostname"] == socket.gethostname()
    assert abs(found.clock_s - (time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))) < 1


def is_exit_of(pid: int, entry: JournalEntry) -> bool:
    return entry.pid == pid and entry.data["what"] == "exit"


def test_started_programs_are_journaled(guest: Guest) -> None:
    if not guest.hello["process_journal"]:
        pytest.skip(f"needs the kernel's proc connector: {guest.hello['why']}")
    for _ in range(
        20
    ):  # what else this computer starts may use up what the daemon follows in a second
        last = guest.channel.journal[-1].seq
        child = subprocess.Popen(["sh", "-c", "exit 7"])
        child.wait()
        try:
            found = guest.channel.wait_journal(partial(is_exit_of, child.pid), 2, after=last)
        except GuestTimeout:
            continue
        break
    assert found.data["code"] == 7 and found.source == "process"


def test_a_flood_of_programs_is_counted_not_followed(guest: Guest) -> None:
    if not guest.hello["process_journal"]:
        pytest.skip(f"needs the kernel's proc connector: {guest.hello['why']}")
    last, began = guest.channel.journal[-1].seq, time.monotonic()
    subprocess.run(
        ["sh", "-c", "i=0; while [ $i -lt 1500 ]; do /bin/true; i=$((i+1)); done"], check=True
    )
    guest.channel.wait_journal(lambda entry: entry.data.get("what") == "dropped", 10, after=last)
    guest.channel.ping()
    followed = [
        e for e in guest.channel.journal if e.seq > last and e.data["what"] in ("exec", "exit")
    ]
    assert len(followed) <= 300 * (time.monotonic() - began + 2)


def test_broken_requests_are_answered(guest: Guest) -> None:
    with pytest.raises(GuestError, match="unknown op 'fly'"):
        guest.channel.call("fly")
    with pytest.raises(GuestError, match="request: TypeError"):
        guest.channel.call("shell", wrong=1)
    with pytest.raises(GuestError, match="request: KeyError"):
        guest.channel.call("get")
    with pytest.raises(GuestError, match="cannot be typed"):
        guest.channel.call("shell", command="a\x03b")
    guest.channel.ping()


def test_the_daemon_survives_garbage_of_the_host(tmp_path: Path) -> None:
    near, far = socket.socketpair()
    near.settimeout(20)
    label = f"harmgym-garbage-{os.getpid()}"
    with far:
        daemon = [
            sys.executable,
            "-I",
            "-B",
            "-u",
            str(GUEST / "guestd"),
            "--fd",
            str(far.fileno()),
            "--run-dir",
            str(tmp_path),
        ]
        daemon += ["--tmux-label", label, "--uid", str(os.getuid()), "--no-process-journal"]
        process = subprocess.Popen(daemon, pass_fds=[far.fileno()])
    stream = near.makefile("rb")

    def receive() -> dict[str, Any]:
        size = int.from_bytes(stream.read(4), "big")
        return dict(json.loads(stream.read(size))) if size else receive() if stream.read(8) else {}

    try:
        assert receive()["event"] == "hello"
        for garbage in (
            frame(b"{no json"),
            frame([1]),
            frame({"id": 1}),
            frame({"id": 1, "op": "ping", "args": 3}),
            b"garbage!" * 10,
        ):
            near.sendall(garbage)
            assert receive()["ok"] is False
            assert not select.select([near], [], [], 0.05)[0] or receive()["ok"] is False
        near.sendall(frame({"id": 2, "op": "ping", "args": {}}))
        assert receive()["result"]["pid"] == process.pid
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        stream.close()
        near.close()


@pytest.fixture(scope="module")
def parts() -> Iterator[Any]:
    """The daemon's module that cuts text."""
    sys.path.insert(0, str(GUEST / "guestd"))
    try:
        import text as module  # type: ignore[import-not-found]

        yield module
    finally:
        sys.path.remove(str(GUEST / "guestd"))


@given(
    st.lists(st.text(st.characters(exclude_characters="\n"), max_size=30), max_size=30),
    st.integers(60, 400),
)
def test_cutting_keeps_the_bound_and_counts_lines(parts: Any, lines: list[str], room: int) -> None:
    text, cut = parts.cut(lines, [], 0, room)
    whole = "\n".join(lines)
    assert len(text) <= max(room, 0) + 20
    assert cut == (len(whole) > room) and (cut or text == whole)


def test_cutting_between_two_captures_counts_what_was_never_read(parts: Any) -> None:
    text, cut = parts.cut(["a", "b"], ["y", "z"], 100, 1000)
    assert cut and text == "a\nb\n[... 100 lines cut ...]\ny\nz"
