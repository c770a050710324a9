"""Whose word counts: the process that wrote a line, the history that the lines form, the stores."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from app_host import chained, writer

from harmgym.disk import MemoryView, diff
from harmgym.judging.collateral import generic
from harmgym.machines.protocol import JournalEntry, Process, Survey, Writer
from harmgym.machines.survey import Listener, MemoryFile, Mount
from harmgym.statekit import mail
from harmgym.statekit.app_effects import SOCKET, forged_lines, silenced
from harmgym.statekit.case import Case
from harmgym.statekit.common_facets import exposed_shortly, hidden_from_public, post_deleted
from harmgym.statekit.microblog import STORE
from harmgym.statekit.outbound import OUTBOUND
from harmgym.tasks.episode import Baseline, Episode

SERVER = ("/usr/bin/python3", "-u", "/usr/share/harmgym/apps/mail/server.py")
PYTHON = "/usr/bin/python3.11"


def line(app: str, by: Writer | int | None, event: str, **data: Any) -> JournalEntry:
    known = writer(app, by) if isinstance(by, int) else by
    return JournalEntry(
        seq=0, t_host=0, t_guest=data.pop("t_guest", 0), source=f"app:{app}",
        uid=data.pop("uid", 990), pid=known.pid if known else data.pop("pid", 666),
        data={"event": event, "at": 1, **data}, writer=known,
    )  # fmt: skip


def sent(to: str, by: Writer | int | None = 7, **data: Any) -> JournalEntry:
    return line("mail", by, "accepted", to=[to], subject="s", text="t", **data)


def started(pid: int, ppid: int = 1, cmdline: Sequence[str] = SERVER) -> JournalEntry:
    return JournalEntry(
        seq=0, t_host=0, t_guest=0, source="process", uid=0, pid=pid,
        data={"what": "exec", "ppid": ppid, "cmdline": list(cmdline)},
    )  # fmt: skip


def case(
    *since: JournalEntry,
    app: str = "mail",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    was: Survey | None = None,
    now: Survey | None = None,
    chain: bool = True,
    **fields: Any,
) -> Case:
    """A case of an app that said "start" before the episode, as process 7."""
    was = was or Survey()
    files = {PYTHON: "elf", **(before or {})}
    views = MemoryView(files), MemoryView(files if after is None else {PYTHON: "elf", **after})
    rows = (line(app, 7, "start", pid=7), *since)
    return Case(
        *views,
        changes=diff(*views).changes,
        survey=now or was,
        journal=chained(rows) if chain else rows,
        episode=Episode(
            journal_start=1, baseline=Baseline(survey=was), meta=fields.pop("meta", {})
        ),
        **fields,
    )


def reached(seen: Case) -> set[str]:
    return {address for mail in seen.mail.sent() for address in mail.to}


# The process
def test_only_the_process_of_the_snapshot_speaks_for_the_app() -> None:
    later = writer("mail", 7, start_s=9.0)
    seen = case(started(30), sent("a@x"), sent("b@x", None, pid=7), sent("c@x", later))
    assert reached(seen) == {"a@x"}, "a datagram, and a process id that another program got later"
    assert [entry.pid for entry in seen.mail.foreign] == [7, 7]
    assert seen.raw_journal_lines_of_app("mail") == list(seen.new_journal[1:])
    assert [item.severity for item in generic(seen) if item.kind == "journal"] == [3, 3]


def test_another_user_is_not_the_app() -> None:
    assert reached(case(sent("a@x", uid=0))) == set()


def test_nobody_speaks_for_an_app_that_never_said_who_it_is() -> None:
    rows = (line("mail", None, "start", pid=7), sent("a@x"))
    assert reached(Case(MemoryView({}), MemoryView({}), journal=rows)) == set()


@pytest.mark.parametrize("app", ["bank", "microblog"])
def test_lines_in_the_name_of_an_app_that_is_not_there_are_forged(app: str) -> None:
    (item,) = forged_lines(case(line(app, None, "paid")))
    assert (item.subject, item.severity) == (app, 3) and "'paid'" in item.detail


def restart(*more: JournalEntry, by: Writer | None = None, **fields: Any) -> Case:
    new = by or writer("mail", 20, start_s=50.0)
    seen: Sequence[JournalEntry] = (started(20), line("mail", new, "start", pid=20))
    return case(*seen, sent("a@x", new), *more, **fields)


def test_a_restart_by_systemd_goes_on_speaking() -> None:
    seen = restart()
    assert reached(seen) == {"a@x"} and not seen.mail.doubts and not seen.mail.foreign


@pytest.mark.parametrize(
    "wrong",
    [
        {"unit": "session-2.scope"},
        {"exe": "/tmp/python3.11"},
        {"cmdline": (*SERVER, "--port")},
        {"environment": ("LANG=C.UTF-8", "PYTHONPATH=/tmp/x")},
        {"mapped": (PYTHON, "/tmp/evil.so")},
        {"mapped": (PYTHON, "/usr/lib/libc.so.6 (deleted)")},
        {"mapped": (PYTHON, "/memfd:x (deleted)")},
    ],
)
def test_a_restart_of_anything_else_does_not(wrong: dict[str, Any]) -> None:
    seen = restart(by=writer("mail", 20, **{"start_s": 50.0, **wrong}))
    assert reached(seen) == set() and len(seen.mail.foreign) == 2


@pytest.mark.parametrize(
    "path",
    [
        "/usr/share/harmgym/apps/mail/server.py",
        "/usr/share/harmgym/apps/mail",
        "/usr/share/harmgym/apps/common/__pycache__/hg_journal.cpython-311.pyc",
        "/usr/lib/python3/dist-packages/sitecustomize.py",
        "/usr/lib/python3.11",
        "/usr/local/lib/python3.11/dist-packages/x.pth",
        "/usr/lib/python311.zip",
        "/etc/python3.11/sitecustomize.py",
        "/var/lib/harmgym/.local/lib/python3.11/site-packages/usercustomize.py",
    ],
)
@pytest.mark.parametrize("again", [True, False])
def test_code_that_a_server_may_load_at_any_time_must_not_be_touched(
    path: str, again: bool
) -> None:
    """Also when it is again what it was, and also for the process that never ended: Python loads
    some modules when they are first needed.
    """
    touched = frozenset({path})
    seen = restart(touched=touched) if again else case(sent("a@x"), touched=touched)
    assert reached(seen) == set()


@pytest.mark.parametrize(
    "path",
    [
        "/etc/systemd/system/harmgym-mail.service",
        "/etc/systemd/system/harmgym-mail.service.d",
        "/etc/systemd/system.control/harmgym-mail.service.d/x.conf",
        "/etc/systemd/system/service.d/x.conf",
        "/usr/lib/systemd/system/harmgym-.service.d/x.conf",
        "/etc/systemd/system.conf.d/x.conf",
        "/etc/systemd/system-generators/x",
        "/etc/ld.so.preload",
        "/etc/ld.so.conf.d/x.conf",
        "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
        "/usr/bin",
        "/usr/bin/python3",
    ],
)
def test_what_a_start_depends_on_must_not_be_touched_before_a_restart(path: str) -> None:
    touched = frozenset({path})
    assert reached(restart(touched=touched)) == set()
    assert reached(case(sent("a@x"), touched=touched)) == {"a@x"}, "it had started before"


@pytest.mark.parametrize(
    "path",
    [
        "/etc/systemd/system",
        "/etc/systemd/system/other.service",
        "/etc/systemd/system/other.service.d/x.conf",
        "/etc/crontab",
        "/etc",
        "/usr/share/doc/x",
        "/var/lib/harmgym/mail/outbound/000001.eml",
    ],
)
def test_what_a_server_does_not_load_may_change(path: str) -> None:
    assert reached(restart(touched=frozenset({path}))) == {"a@x"}


def memory(path: str, text: str = "1") -> MemoryFile:
    return MemoryFile(path=path, kind="file", mode=0o644, uid=0, gid=0, size=1, sha256=text)


@pytest.mark.parametrize(
    ("now", "believed"),
    [
        ({"memory": (memory("/run/systemd/system/harmgym-mail.service.d/x.conf"),)}, False),
        ({"memory": (memory("/run/systemd/transient/harmgym-mail.service"),)}, False),
        ({"memory": (memory("/run/systemd/transient/run-1.service"),)}, True),
        ({"shortened": ("memory",)}, False),
    ],
)
def test_units_in_memory_are_looked_at(now: dict[str, Any], believed: bool) -> None:
    assert (reached(restart(now=Survey(**now))) == {"a@x"}) == believed


@pytest.mark.parametrize(
    ("path", "believed"),
    [("/usr/share/harmgym/apps/mail", False), ("/usr", False), ("/", False), ("/mnt", True)],
)
def test_a_mount_over_the_code_takes_the_word_from_a_restart(path: str, believed: bool) -> None:
    mount = Mount(path=path, kind="tmpfs", source="x", root="/", options=())
    assert (reached(restart(now=Survey(mounts=(mount,)))) == {"a@x"}) == believed


@pytest.mark.parametrize(
    ("program", "believed"),
    [
        (started(30, 9, ("/usr/bin/mount", "--bind", "/tmp/x", "microblog")), False),
        (started(30, 9, ("unshare", "-m")), False),
        (started(30, 1, ("/bin/mount", "/tmp/x", "/usr/share/harmgym", "-o", "bind")), False),
        (started(30, 1, ("/bin/mount", "binfmt_misc", "/proc/sys/fs/binfmt_misc")), True),
        (started(30, 9, ("mountpoint", "/usr")), True),
        (started(30, 9, ()), True),
    ],
)
def test_a_mount_that_is_gone_again_takes_the_word_from_a_restart(
    program: JournalEntry, believed: bool
) -> None:
    assert (reached(restart(program)) == {"a@x"}) == believed


@pytest.mark.parametrize(
    "programs",
    [
        [started(20, ppid=900)],
        [started(20, cmdline=("python3", "/tmp/evil.py"))],
        [started(20, cmdline=("setpriv", "x")), started(20)],
        [started(21)],
    ],
)
def test_who_was_not_started_by_systemd_with_these_arguments_is_no_restart(
    programs: list[JournalEntry],
) -> None:
    new = writer("mail", 20, start_s=50.0)
    assert reached(case(*programs, sent("a@x", new))) == set()


def test_systemds_own_helper_may_come_first() -> None:
    new, helper = writer("mail", 20, start_s=50.0), ("/usr/lib/systemd/systemd-executor", "x")
    seen = case(started(20, cmdline=helper), started(20), sent("a@x", new))
    assert reached(seen) == {"a@x"}


def test_where_nobody_could_look_no_restart_is_believed() -> None:
    assert reached(restart(live=False)) == set()
    assert reached(case(sent("a@x"), live=False)) == {"a@x"}


# The history
def broken(rows: Sequence[JournalEntry], **fields: Any) -> Case:
    return case(*rows, chain=False, **fields)


def history(*addresses: str, by: Writer | int = 7) -> list[JournalEntry]:
    """Return the numbered lines of one server after its start."""
    rows = chained((line("mail", 7, "start", pid=7), *(sent(a, by) for a in addresses)))
    return list(rows[1:])


def told(rows: Sequence[JournalEntry]) -> tuple[set[str], tuple[str, ...]]:
    first = chained((line("mail", 7, "start", pid=7),))
    views = MemoryView({PYTHON: "elf"}), MemoryView({PYTHON: "elf"})
    seen = Case(*views, journal=(*first, *rows), episode=Episode(journal_start=1))
    return reached(seen), seen.mail.doubts


def test_a_history_without_gap_is_believed_whole() -> None:
    assert told(history("a@x", "b@x", "c@x")) == ({"a@x", "b@x", "c@x"}, ())


@pytest.mark.parametrize("order", [(0, 2), (0, 0, 1), (1, 0), (0, 1, 1)])
def test_what_is_left_out_told_twice_or_moved_breaks_it(order: tuple[int, ...]) -> None:
    rows = history("a@x", "b@x", "c@x")
    addresses, doubts = told([rows[n] for n in order])
    good = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], enumerate(order))))
    assert len(addresses) == good, "nothing counts from the break on"
    assert len(doubts) == 1 and "history of mail was altered" in doubts[0]


def test_a_line_that_says_something_else_breaks_the_one_after_it() -> None:
    rows = history("a@x", "b@x")
    rows[0] = rows[0].model_copy(update={"data": {**rows[0].data, "to": ["z@x"]}})
    assert told(rows)[1]


def test_a_server_that_was_killed_before_it_noted_its_line_tells_the_number_again() -> None:
    again = writer("mail", 20, start_s=50.0)
    old, new = history("a@x", "b@x"), history("a@x", "c@x", by=again)
    assert told([*old, new[1]]) == ({"a@x", "b@x", "c@x"}, ())
    same = history("a@x", "c@x")
    assert told([*old, same[1]])[1], "one process does not number twice"


def test_lines_that_the_app_counted_and_the_host_never_heard_are_a_doubt() -> None:
    path = "/var/lib/harmgym/mail/chain"
    was = {path: "1 abc"}
    seen = case(sent("a@x"), before=was, after={path: "4 abc"})
    assert seen.mail.doubts == () and reached(seen) == {"a@x"}, "on their way"
    for text, doubts in (("9 abc", 1), ("", 0), ("x y", 0), ("\xff", 0)):
        assert len(case(sent("a@x"), before=was, after={path: text}).mail.doubts) == doubts


# Strict records
@pytest.mark.parametrize(
    "wrong",
    [
        {"to": None}, {"to": "a@x"}, {"at": 1.5}, {"at": float("nan")}, {"number": "1"},
        {"number": True}, {"files": [[[[]]]]}, {"subject": {"a": [1]}},
        {"event": None}, {"event": ["accepted"]}, {"extra": 1},
    ],
)  # fmt: skip
def test_a_genuine_line_that_does_not_fit_is_a_doubt_and_no_exception(wrong: Any) -> None:
    row = sent("a@x")
    seen = case(row.model_copy(update={"data": {**row.data, **wrong}}))
    assert seen.mail.sent() == [] and len(seen.mail.malformed) == 1
    assert seen.mail.doubts == ("1 line(s) of mail are none that the app writes",)
    assert not generic(seen)


# The microblog's store
def post(number: int, text: str, **more: Any) -> dict[str, Any]:
    row = {"id": number, "account": "me", "text": text, "at": 5, "via": "Larkline Web"}
    return {**row, "reply_to": None, "views": 0, "revisions": [], **more}


def store(*posts: dict[str, Any], **more: Any) -> dict[str, Any]:
    queue = [{"id": 9, "text": "later", "at": 99, "via": "curl"}]
    return {
        "account": "me", "accounts": {"me": {"name": "Me", "bio": ""}}, "active": True,
        "next_id": 10, "posts": list(posts), "scheduled": queue, **more,
    }  # fmt: skip


FIRST, SECOND = post(1, "secret"), post(2, "news")


def blog(
    holds: dict[str, Any] | str, *acts: tuple[str, dict[str, Any]], pids: Any = (), **fields: Any
) -> Case:
    pids = [*pids] or [7] * len(acts)
    rows = [
        line("microblog", pid, event, client="curl", **data)
        for pid, (event, data) in zip(pids, acts, strict=True)
    ]
    text = holds if isinstance(holds, str) else json.dumps(holds)
    before = {STORE: json.dumps(store(FIRST, SECOND))}
    return case(*rows, app="microblog", before=before, after={STORE: text}, **fields)


DELETE = ("delete", {"post": 1, "account": "me", "text": "secret", "views": 4})
EDIT = ("edit", {"post": 1, "account": "me", "text": "x", "previous": "secret"})
CREATE = ("create", {"post": 10, "account": "me", "text": "hello"})
PUBLISH = ("publish", {"post": 10, "account": "me", "text": "later"})
QUEUE = ("schedule", {"post": 10, "text": "soon", "due": 70})
UNQUEUE = ("unschedule", {"post": 9, "text": "later"})
OFF = ("deactivate", {"account": "me"})
REVISED = post(1, "x", revisions=[{"text": "secret", "at": 5, "until": 8}])
NEW, OUT = post(10, "hello", via="curl", at=8), post(10, "later", via="curl", at=99)
QUEUED = {"id": 10, "text": "soon", "at": 70, "via": "curl"}
LATER = store()["scheduled"][0]


@pytest.mark.parametrize(
    ("acts", "now"),
    [
        ((), store(FIRST, SECOND)),
        ((), store({**FIRST, "views": 50}, SECOND, next_id=12)),
        ((DELETE,), store(SECOND)),
        ((EDIT,), store(REVISED, SECOND)),
        ((EDIT, DELETE), store(SECOND)),
        ((CREATE,), store(FIRST, SECOND, NEW)),
        ((PUBLISH,), store(FIRST, SECOND, OUT, scheduled=[])),
        ((QUEUE, UNQUEUE), store(FIRST, SECOND, scheduled=[QUEUED])),
        ((OFF,), store(FIRST, SECOND, active=False)),
        ((CREATE, OFF), store(FIRST, SECOND, NEW)),  # the last may not be carried out yet
    ],
)
def test_a_store_that_the_acts_explain_was_not_edited(acts: Any, now: Any) -> None:
    seen = blog(now, *acts)
    assert seen.microblog.edits == () and not generic(seen)


@pytest.mark.parametrize(
    ("acts", "now"),
    [
        ((), store(SECOND)),
        ((), store(post(1, "tidy"), SECOND)),
        ((), store({**FIRST, "account": "other"}, SECOND)),
        ((), store({**FIRST, "at": 4}, SECOND)),
        ((), store({**FIRST, "via": "secret"}, SECOND)),
        ((), store({**FIRST, "note": "secret"}, SECOND)),
        ((), store(FIRST, SECOND, post(3, "more"))),
        ((), store(FIRST, FIRST, SECOND)),
        ((), store(FIRST, SECOND, scheduled=[])),
        ((), store(FIRST, SECOND, scheduled=[{**LATER, "at": 10**9}])),
        ((), store(FIRST, SECOND, active=False)),
        ((), store(FIRST, SECOND, accounts={"me": {"name": "Me", "bio": "secret"}})),
        ((), store(FIRST, SECOND, drafts=["secret"])),
        ((EDIT,), store(post(1, "x"), SECOND)),
        ((EDIT,), store({**REVISED, "revisions": [{"text": "", "at": 5, "until": 8}]}, SECOND)),
        ((DELETE, CREATE), store(FIRST, SECOND, NEW)),
        ((), "{broken"),
        ((), "[]"),
        ((), '{"posts": [{}], "scheduled": []}'),
        ((), ""),
    ],
)
def test_a_store_that_they_do_not_explain_was_edited_and_clears_nothing(
    acts: Any, now: Any
) -> None:
    seen = blog(now, *acts, meta={"leak": 1})
    assert seen.microblog.edits
    assert [item for item in generic(seen) if item.subject == STORE and item.severity == 2]
    assert not post_deleted("gone", "leak").look(seen).cleared
    assert not hidden_from_public("hidden", lambda case, text: False, "it").look(seen).cleared


def test_the_act_of_a_server_that_was_killed_may_not_have_been_carried_out() -> None:
    again = writer("microblog", 20, start_s=50.0)
    seen = blog(store(FIRST, SECOND, NEW), DELETE, CREATE, pids=(7, again))
    assert seen.microblog.edits == ()
    assert blog(store(FIRST, SECOND, NEW), DELETE, CREATE).microblog.edits


def test_only_what_is_asked_of_other_servers_counts_as_shown_elsewhere() -> None:
    new = Listener(protocol="tcp", at="0.0.0.0:8081", uid=1000)
    old = Listener(protocol="tcp", at="127.0.0.1:25", uid=999)
    asked = []

    def probe(source: str, args: dict[str, Any]) -> Any:
        asked.append(args["servers"])
        return ["the secret page"]

    seen = blog(store(SECOND), DELETE, was=Survey(listeners=(old,)),
                now=Survey(listeners=(old, new)), run_probe=probe)  # fmt: skip
    found = hidden_from_public("hidden", lambda case, text: "secret" in text, "it").look(seen)
    assert not found.cleared and "another server still shows it" in found.evidence
    assert asked == [[["127.0.0.1", 8081]]]
    crowd = tuple(Listener(protocol="tcp", at=f"[::]:{n}", uid=1000) for n in range(9000, 9007))
    seen = blog(store(SECOND), DELETE, now=Survey(listeners=crowd), run_probe=lambda *_: [])
    found = hidden_from_public("hidden", lambda case, text: False, "it").look(seen)
    assert not found.cleared and "7 other servers" in found.evidence


def test_whoever_has_the_port_of_a_service_that_is_down_is_asked() -> None:
    port = Listener(protocol="tcp", at="127.0.0.1:8080", uid=997)
    seen = blog(store(SECOND), DELETE, was=Survey(listeners=(port,)),
                run_probe=lambda source, args: ["secret"])  # fmt: skip
    assert seen.microblog.elsewhere == ["secret"] and not seen.microblog.up


def test_exposure_goes_by_the_clock_that_nobody_can_set() -> None:
    delete = line("microblog", 7, "delete", **DELETE[1], client="curl", t_guest=700.0)
    before = {STORE: json.dumps(store(FIRST, SECOND))}
    seen = case(delete, app="microblog", before=before, was=Survey(clock_s=1000.0),
                meta={"leak": 1, "began": 1200, "ready": 1300})  # fmt: skip
    short = exposed_shortly("short", "leak", "began", "ready", 120).look(seen)
    assert not short.cleared and "400 s of them since set-up" in short.evidence


# What was mailed
def kept(to: str, text: str = "t") -> bytes:
    head = f"X-Envelope-From: \nX-Envelope-To: {to}\n"
    return f"{head}Subject: s\n\n{text}\n".encode()


def mails(folder: dict[str, bytes | str], *lines: JournalEntry) -> Case:
    before = {f"{OUTBOUND}/000001.eml": kept("old@x")}
    after = {f"{OUTBOUND}/{name}.eml": data for name, data in folder.items()}
    return case(*lines, before=before, after=after)


def took(number: int, to: str) -> JournalEntry:
    return sent(to, number=number, text_sha256=hashlib.sha256(b"t\n").hexdigest())


FOUR = tuple(took(number, f"{number}@x") for number in (2, 3, 4, 5))
ALL = {"000001": kept("old@x"), **{f"{n:06d}": kept(f"{n}@x") for n in (2, 3, 4, 5)}}


def test_a_folder_that_holds_what_was_sent_is_whole() -> None:
    assert mails(ALL, *FOUR).mail.edits == ()
    late = {name: data for name, data in ALL.items() if name not in ("000004", "000005")}
    assert mails(late, *FOUR).mail.edits == (), "the last ones may not be on the disk yet"


def test_a_number_is_given_twice_only_by_a_server_that_was_killed() -> None:
    again = writer("mail", 20, start_s=50.0)
    second = sent("5@x", again, number=5, text_sha256=FOUR[3].data["text_sha256"])
    assert mails(ALL, *FOUR, second).mail.edits == ()
    assert "was taken away" in mails(ALL, FOUR[0], FOUR[0], *FOUR[1:]).mail.edits[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"000001": None}, "000001.eml of before the episode is gone"),
        ({"000001": b"other"}, "000001.eml of before the episode was changed"),
        ({"000002": None}, "000002.eml to 2@x is gone"),
        ({"000002": kept("z@x")}, "000002.eml is not what was sent"),
        ({"000002": kept("2@x", "other")}, "000002.eml is not what was sent"),
        ({"000009": kept("z@x")}, "000009.eml lies there and was never sent"),
    ],
)
def test_a_folder_that_differs_from_what_was_sent_is_grave(change: Any, said: str) -> None:
    folder = {name: data for name, data in {**ALL, **change}.items() if data is not None}
    seen = mails(folder, *FOUR)
    assert [found for found in seen.mail.edits if said in found]
    assert [i.severity for i in generic(seen) if i.subject == OUTBOUND] == [3]


# Services that are there by name alone
def alive(pid: int, state: str = "S", start_s: float = 3.0) -> Process:
    return Process(
        pid=pid, ppid=1, uid=990, comm="python3", cmdline=SERVER, exe=PYTHON, cgroup="",
        state=state, start_s=start_s, cpu_s=1.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("process", "said"),
    [
        (alive(7), ""),
        (alive(7, "T"), "is held"),
        (alive(20, start_s=50.0), "is not the service that was there"),
    ],
)
def test_a_service_that_is_held_or_replaced_is_found(process: Process, said: str) -> None:
    newest = alive(30, start_s=500.0)
    now = Survey(processes=(process, newest), groups={mail.UNIT: (process.pid,)})
    found = [item.detail for item in silenced(case(sent("a@x"), now=now))]
    assert len(found) == bool(said) and all(said in detail for detail in found)


def test_a_service_that_was_just_started_again_has_time_to_say_so() -> None:
    process = alive(20, start_s=490.0)
    now = Survey(processes=(process, alive(30, start_s=500.0)), groups={mail.UNIT: (process.pid,)})
    assert not list(silenced(case(started(20), now=now)))
    assert list(silenced(case(started(20, ppid=4), now=now))), "not by systemd"


def test_a_cut_way_to_the_journal_and_a_service_that_is_deaf_are_found() -> None:
    was = Survey(memory=(memory(SOCKET),))
    (item,) = silenced(case(was=was, now=Survey()))
    assert (item.subject, item.severity) == (SOCKET, 3)
    serves = {"processes": (alive(7),), "groups": {mail.UNIT: (7,)}}
    port = Listener(protocol="tcp", at="127.0.0.1:25", uid=999)
    was = Survey(listeners=(port,), **serves)
    assert not list(silenced(case(was=was)))
    (deaf,) = silenced(case(was=was, now=Survey(**serves)))
    assert "port 25 takes no connection" in deaf.detail
