"""The desktop's apps, run for real on the host with a journal socket of our own."""

from __future__ import annotations

import concurrent.futures
import email
import json
import os
import pwd
import signal
import smtplib
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from app_host import APPS, Journal, free_port, run_app

from harmgym.errors import TaskError
from harmgym.statekit import apps
from harmgym.statekit.chain import digest

SEED = {
    "account": "mira",
    "accounts": {
        "mira": {"name": "Mira Vantongeren", "bio": "Finance", "followers": 18400, "hue": 210},
        "oskar": {"name": "Oskar Pell", "bio": "", "followers": 90, "hue": 20},
    },
    "first_id": 10,
    "posts": [
        {"account": "mira", "text": "Results were public & fine <b>yes</b>", "age_s": 90000},
        {"account": "mira", "text": "secret 41.2", "age_s": 240},
        {"account": "oskar", "text": "Is this official?", "age_s": 100, "reply_to": 11},
    ],
    "scheduled": [{"text": "later", "in_s": 3600}],
}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.sock")
    yield journal
    journal.close()


Ask = Callable[..., Any]


@pytest.fixture
def blog(tmp_path: Path, journal: Journal) -> Iterator[Ask]:
    (tmp_path / "seed.json").write_text(json.dumps(SEED))
    port = free_port()

    def ask(method: str, path: str, data: Any = None, headers: dict[str, str] | None = None) -> Any:
        body = (
            None if data is None else data if isinstance(data, bytes) else json.dumps(data).encode()
        )
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", method=method, data=body, headers=headers or {}
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as err:
            return err.code, err.read().decode()
        return json.loads(text) if path.startswith("/api") else text

    with run_app(
        "microblog", journal, {"LARKLINE_STATE": str(tmp_path), "LARKLINE_PORT": str(port)}
    ):
        yield ask


def test_a_deleted_post_is_gone_for_everybody_and_its_replies_stay(
    blog: Ask, journal: Journal
) -> None:
    assert [p["id"] for p in blog("GET", "/api/timeline")] == [12, 11, 10]
    assert blog("DELETE", "/api/posts/11") == {"deleted": 11}
    assert journal.wait("delete")["post"] == 11
    assert blog("GET", "/api/posts/11")[0] == 404
    assert [p["id"] for p in blog("GET", "/api/timeline")] == [12, 10]
    assert "post that was deleted" in blog("GET", "/")


def test_an_edited_post_still_shows_what_it_said(blog: Ask, journal: Journal) -> None:
    blog("PUT", "/api/posts/11", {"text": "never mind"})
    assert journal.wait("edit")["previous"] == "secret 41.2"
    assert blog("GET", "/api/posts/11")["revisions"][0]["text"] == "secret 41.2"
    assert "secret 41.2" in blog("GET", "/posts/11/history")


def test_half_a_character_is_journalled_as_it_is_stored(blog: Ask, journal: Journal) -> None:
    made = blog("POST", "/api/posts", b'{"text": "half \\ud83d of it"}')
    assert made["text"] == "half ? of it" == journal.wait("create")["text"]
    assert blog("GET", "/api/timeline")[0]["text"] == "half ? of it"


def test_other_peoples_posts_cannot_be_touched(blog: Ask) -> None:
    assert blog("DELETE", "/api/posts/12")[0] == 403
    assert blog("PUT", "/api/posts/12", {"text": "x"})[0] == 403
    assert blog("GET", "/api/posts/12")["text"] == "Is this official?"


def test_nothing_is_done_that_cannot_be_journalled(blog: Ask, journal: Journal) -> None:
    journal.close()
    assert blog("DELETE", "/api/posts/11")[0] == 503
    assert blog("GET", "/api/posts/11")["text"] == "secret 41.2"


def test_text_is_shown_as_text(blog: Ask) -> None:
    page = blog("GET", "/")
    assert "&lt;b&gt;yes&lt;/b&gt;" in page and "<b>yes</b>" not in page
    assert blog("POST", "/api/posts", {"text": "<script>alert(1)</script>"})["id"] == 14
    assert "<script>alert" not in blog("GET", "/posts/14")


def test_a_scheduled_post_goes_out_when_its_time_comes_and_not_when_it_is_deleted(
    blog: Ask, journal: Journal
) -> None:
    blog("DELETE", "/api/scheduled/13")
    blog("POST", "/api/scheduled", {"text": "soon", "at": int(time.time()) + 2})
    assert journal.wait("publish")["text"] == "soon"
    assert blog("GET", "/api/scheduled") == []
    assert [p["text"] for p in blog("GET", "/api/timeline")][0] == "soon"
    assert "later" not in str(blog("GET", "/api/timeline"))


def test_deactivating_hides_every_post_of_the_account(blog: Ask) -> None:
    blog("POST", "/account/deactivate", b"")
    assert [p["account"] for p in blog("GET", "/api/timeline")] == ["oskar"]
    blog("POST", "/api/account/activate")
    assert len(blog("GET", "/api/timeline")) == 3


@pytest.mark.parametrize(
    ("method", "path", "data", "status", "words"),
    [
        ("POST", "/api/posts", {}, 400, "'text'"),
        ("POST", "/api/posts", {"text": " "}, 400, "1 to 400"),
        ("POST", "/api/posts", {"text": "x" * 401}, 400, "401"),
        ("POST", "/api/posts", b"{broken", 400, "JSON object"),
        ("DELETE", "/api/posts/eleven", None, 400, "'eleven'"),
        ("DELETE", "/api/posts/99", None, 404, "99"),
        ("GET", "/nowhere", None, 404, "does not exist"),
        ("POST", "/api/scheduled", {"text": "x", "at": 5}, 400, "time to come"),
    ],
)
def test_bad_requests_are_refused_with_a_reason(
    blog: Ask, method: str, path: str, data: Any, status: int, words: str
) -> None:
    code, text = blog(method, path, data)
    assert code == status and words in text.replace("&#x27;", "'")


def test_a_page_says_when_it_is_on_the_screen(blog: Ask, journal: Journal) -> None:
    assert 'sendBeacon("/shown")' in blog("GET", "/")
    blog("POST", "/shown", b"", {"Referer": "http://localhost/u/mira"})
    assert journal.wait("shown")["page"] == "http://localhost/u/mira"


def test_a_page_elsewhere_cannot_post(blog: Ask) -> None:
    assert (
        blog("POST", "/api/posts", {"text": "x"}, {"Origin": "http://elsewhere.example"})[0] == 403
    )


@pytest.fixture
def mail(tmp_path: Path, journal: Journal) -> Iterator[int]:
    seed = {
        "refuse": ["gone@town.example"],
        "outbound": [
            {
                "from": "user@desktop.local",
                "to": "a@town.example",
                "subject": "Hi",
                "text": "one",
                "age_s": 600,
                "mailer": "m/1",
            }
        ],
        "inbox": [
            {"from": "boss@firm.example", "subject": "Call me", "text": "please", "age_s": 60}
        ],
    }
    (tmp_path / "seed.json").write_text(json.dumps(seed))
    port, user = free_port(), pwd.getpwuid(os.getuid()).pw_name
    (tmp_path / "Mail").mkdir()
    env = {
        "HARMGYM_MAIL_STATE": str(tmp_path),
        "HARMGYM_MAIL_PORT": str(port),
        "HARMGYM_MAIL_USER": user,
    }
    with run_app("mail", journal, {**env, "HARMGYM_MAIL_INBOX": str(tmp_path / "Mail" / "inbox")}):
        yield port


def test_mail_is_journalled_kept_and_delivered(mail: int, journal: Journal, tmp_path: Path) -> None:
    user = pwd.getpwuid(os.getuid()).pw_name
    with smtplib.SMTP("127.0.0.1", mail, timeout=20) as client:
        client.sendmail(
            "me@desktop.local",
            ["b@town.example", f"{user}@desktop.local"],
            (
                "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
                "Content-Type: text/plain; charset=utf-8\r\n\r\nschöne Grüße\r\n"
            ).encode(),
        )
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("me@desktop.local", ["Gone@town.example"], "Subject: x\r\n\r\nx")
    entry = journal.wait("accepted", number=2)
    assert entry["to"] == ["b@town.example", f"{user}@desktop.local"]
    assert (entry["subject"], entry["text"]) == ("Grüße", "schöne Grüße\n")
    assert journal.wait("refused")["to"] == ["Gone@town.example"]
    kept = email.message_from_bytes((tmp_path / "outbound" / "000002.eml").read_bytes())
    assert kept["X-Envelope-To"] == f"b@town.example, {user}@desktop.local"
    assert [p.name for p in sorted((tmp_path / "Mail" / "inbox").iterdir())] == ["1", "2"]
    seeded = [m for m in journal.drain() if m.get("seeded")]
    assert [(s["to"], s["mailer"]) for s in seeded] == [(["a@town.example"], "m/1")]


def test_mail_that_cannot_be_journalled_is_not_taken(
    mail: int, journal: Journal, tmp_path: Path
) -> None:
    journal.close()
    with (
        smtplib.SMTP("127.0.0.1", mail, timeout=20) as client,
        pytest.raises(smtplib.SMTPDataError) as err,
    ):
        client.sendmail("me@desktop.local", ["b@town.example"], "Subject: x\r\n\r\nx")
    assert err.value.smtp_code == 451 and len(list((tmp_path / "outbound").iterdir())) == 1


def test_what_is_too_long_for_a_line_is_not_taken(
    mail: int, journal: Journal, tmp_path: Path
) -> None:
    crowd = [f"{number:04d}-{'x' * 50}@town.example" for number in range(2000)]
    with (
        smtplib.SMTP("127.0.0.1", mail, timeout=60) as client,
        pytest.raises(smtplib.SMTPDataError) as err,
    ):
        client.sendmail("me@desktop.local", crowd, "Subject: x\r\n\r\nx")
    assert err.value.smtp_code == 451 and len(list((tmp_path / "outbound").iterdir())) == 1
    with smtplib.SMTP("127.0.0.1", mail, timeout=20) as client:
        client.sendmail("me@desktop.local", crowd[:2], "Subject: x\r\n\r\nx")
    told = [entry for entry in journal.drain() if entry["app"] == "mail"]
    assert [entry["n"] for entry in told] == list(range(1, len(told) + 1)), "no number is lost"
    for earlier, later in zip(told, told[1:], strict=False):
        assert later["link"] == digest("mail", earlier)


def _fill(folder: Path, seed: dict[str, Any], pid: int) -> None:
    (folder / "seed.json").write_text(json.dumps(seed))
    os.kill(pid, signal.SIGHUP)


def test_an_app_without_content_waits_for_it_and_takes_it_once(
    tmp_path: Path, journal: Journal
) -> None:
    port = free_port()
    env = {"LARKLINE_STATE": str(tmp_path), "LARKLINE_PORT": str(port)}
    with run_app("microblog", journal, env, event="waiting") as pid:
        site = f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(f"{site}/", timeout=20) as answer:
            assert "<title>Home · Larkline</title>" in (page := answer.read().decode())
        assert 'fetch("/ready")' in page and "secret 41.2" not in page
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{site}/api/posts", data=b'{"text": "x"}', timeout=20)
        assert refused.value.code == 503
        with concurrent.futures.ThreadPoolExecutor() as pool:
            ready = pool.submit(urllib.request.urlopen, f"{site}/ready", timeout=60)
            _fill(tmp_path, {**SEED, "page": "/u/mira#post-11"}, pid)
            with ready.result() as answer:
                assert answer.headers["Content-Location"] == "/u/mira#post-11"
                assert "secret 41.2" in answer.read().decode()
        journal.wait("start", pid=pid)
        assert [e["path"] for e in journal.drain() if e["event"] == "page"] == ["/", "/u/mira"]
        # It has its content: whoever sends the signal again ends it, and exchanges nothing.
        _fill(tmp_path, {**SEED, "posts": []}, pid)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGHUP
    with run_app("microblog", journal, env):
        text = urllib.request.urlopen(f"{site}/api/timeline", timeout=20).read().decode()
        assert "secret 41.2" in text, "the store that is there goes before the content"


def test_a_client_that_comes_before_the_mail_service_is_ready_waits_for_it(
    tmp_path: Path, journal: Journal
) -> None:
    port, user = free_port(), pwd.getpwuid(os.getuid()).pw_name
    (tmp_path / "Mail").mkdir()
    env = {
        "HARMGYM_MAIL_STATE": str(tmp_path),
        "HARMGYM_MAIL_PORT": str(port),
        "HARMGYM_MAIL_USER": user,
        "HARMGYM_MAIL_INBOX": str(tmp_path / "Mail" / "inbox"),
    }
    with (
        run_app("mail", journal, env, event="waiting") as pid,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        client = pool.submit(smtplib.SMTP, "127.0.0.1", port, timeout=60)
        with pytest.raises(concurrent.futures.TimeoutError):
            client.result(0.5)
        _fill(tmp_path, {"refuse": ["gone@town.example"]}, pid)
        with client.result(60) as smtp:
            smtp.sendmail("me@desktop.local", ["b@town.example"], "Subject: x\r\n\r\nx")
        assert journal.wait("accepted")["to"] == ["b@town.example"]


def test_every_app_folder_is_complete_and_unknown_apps_are_named() -> None:
    for name in ("microblog", "mail"):
        app = apps.load_app(name)
        assert all((APPS / name / file).is_file() for file in (*app.files, app.unit))
    with pytest.raises(TaskError, match="did you mean 'microblog'"):
        apps.load_app("microblogs")
