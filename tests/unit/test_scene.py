"""The set-up of a scene. Its steps run for real, on this host instead of in a guest."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import pytest

from harmgym.errors import TaskError
from harmgym.machines.protocol import Machine
from harmgym.statekit import apps, bait, guest
from harmgym.statekit.people import full_names, pool
from harmgym.statekit.scene import GuestFile, Person, Scene, table
from harmgym.tasks.variant import Variant

ME = pwd.getpwuid(os.getuid()).pw_name
VARIANT = Variant(seed=0, split="train", values={}, task="security/made_up")


@pytest.fixture(autouse=True)
def bait_here(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that only a cheat touches goes into a folder of tests, and belongs to whoever runs
    them.
    """
    folder = tmp_path_factory.mktemp("aside") / "bait"
    monkeypatch.setattr(bait, "FOLDER", str(folder))
    monkeypatch.setattr(bait, "OWNER", ME)
    return folder


class Host:
    """A guest that is this host: what is sent is compiled and called as the guest's daemon does.

    `names` replaces constants of the code that is sent, such as where cron tables lie.
    """

    def __init__(self, **names: str) -> None:
        self.names, self.calls = names, 0

    def run_python(
        self, source: str, args: dict[str, Any] | None = None, timeout_s: float = 10.0
    ) -> Any:
        self.calls += 1
        code: dict[str, Any] = {"__name__": "sent"}
        exec(compile(source, "<source>", "exec"), code)
        code.update(self.names)
        return code["main"](**(args or {}))


def scene_on(host: Host) -> Scene:
    return Scene(cast(Machine, host), VARIANT)


def mine(path: Path, text: str | None, **more: Any) -> GuestFile:
    return GuestFile(path=str(path), text=text, owner=ME, **more)


def test_files_folders_links_and_rights_are_written_in_one_call(tmp_path: Path) -> None:
    host = Host()
    scene = scene_on(host)
    scene.add(
        mine(tmp_path / "a" / "b" / "note.txt", "hello\n", mode=0o640, age_s=3600),
        mine(tmp_path / "private", None, mode=0o700, age_s=7200),
        mine(tmp_path / "private" / "key", "secret", mode=0o600),
    )
    scene.append(str(tmp_path / "a" / "b" / "note.txt"), "and more\n", ME)
    scene.link(str(tmp_path / "links" / "note"), str(tmp_path / "a" / "b" / "note.txt"), ME)
    scene.rights(str(tmp_path / "private" / "key"), mode=0o604)
    scene.apply()
    note, private = tmp_path / "a" / "b" / "note.txt", tmp_path / "private"
    assert host.calls == 1
    assert note.read_text() == "hello\nand more\n" == (tmp_path / "links" / "note").read_text()
    modes = [p.stat().st_mode & 0o7777 for p in (note, note.parent, private, private / "key")]
    assert modes == [0o640, 0o755, 0o700, 0o604]
    ages = [time.time() - p.stat().st_mtime for p in (note, private)]
    assert ages == pytest.approx([3600, 7200], abs=30), "a folder keeps its age when it is filled"


def test_every_scene_leaves_a_file_that_only_a_cheat_touches(bait_here: Path) -> None:
    scene_on(Host()).apply()
    file = bait_here / "made_up.json"
    assert [p.stat().st_mode & 0o7777 for p in (bait_here, file)] == [0o700, 0o600]
    assert "expected" in file.read_text() and time.time() - file.stat().st_mtime > 3600


def test_what_was_applied_is_not_applied_again_and_later_steps_are(tmp_path: Path) -> None:
    scene = scene_on(Host())
    scene.append(str(tmp_path / "log"), "one\n", ME)
    scene.apply()
    scene.append(str(tmp_path / "log"), "two\n", ME)
    scene.apply()
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


def test_a_question_carries_out_what_was_collected_before_it(tmp_path: Path) -> None:
    host = Host()
    scene = scene_on(host)
    scene.add(mine(tmp_path / "x" / "seen", "", mode=0o604), mine(tmp_path / "x" / "c" / "no", ""))
    assert scene.modes(str(tmp_path / "x"), skip=[str(tmp_path / "x" / "c")]) == {
        str(tmp_path / "x"): 0o755,
        str(tmp_path / "x" / "c"): 0o755,
        str(tmp_path / "x" / "seen"): 0o604,
    }
    assert host.calls == 1
    first = scene.now
    assert first == scene.now == pytest.approx(time.time(), abs=30)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda s, f: s.add(GuestFile(path=f"{f}/file/below", text="", owner=ME)),
            "write the file '{f}/file/below': FileExistsError",
        ),
        (
            lambda s, f: s.add(GuestFile(path=f"{f}/x", text=None, owner="nobody-here")),
            "make the folder '{f}/x': KeyError",
        ),
        (lambda s, f: s.rights(f"{f}/nothing", mode=0o600), "rights '{f}/nothing'"),
        (lambda s, f: s.run("ls", f"{f}/nothing"), "start 'ls {f}/nothing': ['ls'"),
        (lambda s, f: s.run("no-such-program"), "start 'no-such-program': FileNotFoundError"),
        (lambda s, f: s.crontab("", "nobody-here"), "install the cron table of 'nobody-here'"),
    ],
)
def test_a_step_that_fails_is_named_in_one_sentence(tmp_path: Path, spoil: Any, words: str) -> None:
    (tmp_path / "file").touch()
    scene = scene_on(Host(CRONTABS=str(tmp_path)))
    spoil(scene, tmp_path)
    with pytest.raises(TaskError) as err:
        scene.apply()
    message = str(err.value)
    assert message.startswith("security/made_up: set-up could not ") and "\n" not in message
    assert words.replace("{f}", str(tmp_path)) in message


def test_a_cron_table_has_the_head_that_crontab_writes(tmp_path: Path) -> None:
    scene = scene_on(Host(CRONTABS=str(tmp_path), ids=lambda *_: (os.getuid(), os.getgid())))  # type: ignore[arg-type]
    scene.crontab("0 7 * * * true\n", ME)
    scene.apply()
    lines = (tmp_path / ME).read_text().splitlines()
    assert lines[0].startswith("# DO NOT EDIT") and lines[3:] == ["0 7 * * * true"]
    assert (tmp_path / ME).stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == [ME]


def test_a_unit_is_enabled_by_the_link_that_systemctl_would_make() -> None:
    scene = scene_on(Host())
    scene.enable("/etc/systemd/system/x.service")
    scene.enable("/home/user/.config/systemd/user/y.service")
    links = [(step["path"], step["target"], step["owner"]) for step in scene._steps[2:]]
    home = "/home/user/.config/systemd/user"
    assert links == [
        (
            "/etc/systemd/system/multi-user.target.wants/x.service",
            "/etc/systemd/system/x.service",
            "root",
        ),
        (f"{home}/default.target.wants/y.service", f"{home}/y.service", "user"),
    ]


def test_an_app_gets_its_content_and_is_told_so(tmp_path: Path) -> None:
    unit = tmp_path / "harmgym-mail.service"
    unit.mkdir()
    waiting = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (unit / "cgroup.procs").write_text(f"{waiting.pid}\n")
    host = cast(Machine, Host(CGROUPS=str(tmp_path)))
    step = {**apps.content("mail", {"inbox": []}), "path": f"{tmp_path}/seed.json", "owner": ME}
    guest.carry_out(host, [step], "x")
    assert waiting.wait(30) == -signal.SIGHUP
    assert (tmp_path / "seed.json").read_text() == '{\n "inbox": []\n}'
    for spoil in (lambda: (unit / "cgroup.procs").write_text(""), (unit / "cgroup.procs").unlink):
        spoil()
        with pytest.raises(
            TaskError, match="its content: ValueError: .* under 'apps' in task.yaml"
        ):
            guest.carry_out(host, [step], "x")


def test_only_apps_with_pages_can_show_one() -> None:
    assert apps.page_address("microblog", "/#post-3") == "http://localhost:8080/#post-3"
    with pytest.raises(TaskError, match="needed an app with pages to show '/x', found 'mail'"):
        apps.page_address("mail", "/x")


def test_the_address_book_is_what_the_mail_program_reads() -> None:
    people = [
        Person(name="A & B", address="ab@x.example", role="firm"),
        Person(name="C", address="c"),
    ]
    index, book, contacts = apps.address_book(people)
    assert 'file="addrbook-000001.xml"' in str(index.text) and book.owner == "user"
    assert 'cn="A &amp; B"' in str(book.text) and 'email="c"' in str(book.text)
    assert contacts.text == "name,address,role\nA & B,ab@x.example,firm\nC,c,\n"


def test_a_table_is_files_of_the_users() -> None:
    assert table(("/a", "x", 0o600, 5.0)) == [GuestFile(path="/a", text="x", mode=0o600, age_s=5.0)]


def test_the_splits_share_no_people_and_more_than_there_are_is_refused() -> None:
    train, heldout = pool().train, pool().heldout
    for field in ("first", "last", "staff"):
        one, other = getattr(train, field), getattr(heldout, field)
        assert len({*one}) == len(one) and len({*other}) == len(other) and not {*one} & {*other}
    drawn = full_names(VARIANT, 99, VARIANT.rng("x"))
    assert len({*drawn}) == 99 and drawn == full_names(VARIANT, 99, VARIANT.rng("x"))
    with pytest.raises(TaskError, match="needed 100000 people, found 624"):
        full_names(VARIANT, 100_000, VARIANT.rng("x"))
