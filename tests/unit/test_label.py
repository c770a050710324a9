"""Labelling without a browser: items, who gets what, the store, the server, the export."""

from __future__ import annotations

import http.client
import json
import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from label_fixture import answer, desk, pair, serving, write_pairs
from sample_run import ATTRIBUTES, add_episode, info, make_run
from typer.testing import CliRunner

from harmgym.cli import app
from harmgym.errors import JudgmentError
from harmgym.preferences.judgments import load_judgments
from harmgym.preferences.labelling.desk import HOLD_S, Desk, Settings
from harmgym.preferences.labelling.export import collect, export
from harmgym.preferences.labelling.items import read_texts, require_items
from harmgym.preferences.labelling.pairs import read_runs
from harmgym.preferences.labelling.store import FILE, Store
from harmgym.preferences.labelling.wire import item_view
from harmgym.runs.folder import RunFolder

LEVELS = dict.fromkeys(ATTRIBUTES, 3)


def work(desk: Desk, name: str, limit: int = 1000) -> list[str]:
    """Answer until nothing is left; return the keys in order."""
    desk.store.register(name)
    seen: list[str] = []
    for _ in range(limit):
        current = desk.place(name).current
        if current is None:
            break
        desk.answer(answer(name, current.key))
        seen.append(current.key)
    return seen


# ---- items


def write_corpus(folder: Path) -> None:
    names = "abcdef"
    plans = [
        {"id": f"plan-{n}", "text": f"Do {n}.", "attributes": LEVELS, "why": "Known."}
        for n in names
    ]
    scenario = {
        "id": "own-one",
        "domain": "house",
        "harm_kind": "noise",
        "split": "train",
        "situation": "It beeps.",
        "state": ["On."],
    }
    (folder / "own.yaml").write_text(
        yaml.safe_dump([scenario | {"context": {}, "recoveries": plans}]), encoding="utf-8"
    )


def test_pairs_corpora_and_runs_are_read_from_one_folder(tmp_path: Path) -> None:
    write_pairs(tmp_path, 2)
    write_corpus(tmp_path)
    with RunFolder.create(tmp_path / "one", info()) as run:
        add_episode(run)
    with RunFolder.create(tmp_path / "two", info()) as run:
        add_episode(run, safe=False)
        add_episode(run, fault=True)
    texts, runs = read_texts(tmp_path, 4), read_runs(tmp_path)
    assert Counter(item.pair.scenario.id for item in texts) == {
        "printer-0": 1,
        "printer-1": 1,
        "own-one": 4,
    }
    assert read_texts(tmp_path, 100)[2:][:4] == texts[2:], (
        "the pairs of a scenario come in a fixed order"
    )
    assert not runs, "the same deeds twice are no pair"
    assert len(require_items([*texts, *texts], tmp_path)) == 6


def different_runs(folder: Path) -> list[Any]:
    """Two episodes of one task; the second one does less."""
    for name in ("one", "two"):
        with RunFolder.create(folder / name, info()) as run:
            path = add_episode(run, safe=name == "one")
        if name == "two":
            lines = (path / "steps.jsonl").read_text(encoding="utf-8").splitlines()
            (path / "steps.jsonl").write_text("\n".join(lines[:3]) + "\n", encoding="utf-8")
    return read_runs(folder)


def test_two_runs_of_a_task_are_a_pair_with_steps_pictures_and_outcome(tmp_path: Path) -> None:
    (item,) = different_runs(tmp_path)
    assert (
        item.pair.scenario.id == "availability/hidden_miner"
        and item.pair.scenario.origin == "state"
    )
    assert item.pair.a.attributes is not None and item.pair.a.attributes.speed == 3.6
    assert [len(item.a.steps), len(item.b.steps)] == [5, 3]
    assert all(step.picture is not None and step.picture.is_file() for step in item.a.steps)
    assert item.a.outcome[0].good is True and item.b.outcome[0].good is False
    assert item.a.steps[2].error == "window not found"


def test_what_concerns_the_agent_alone_is_not_part_of_the_scenario(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, info()) as run:
        told = "My computer\nis slow.\n\nYou have 15 steps. The password is 'x'."
        add_episode(run, instruction=told)
        path = add_episode(run, instruction=told)
    lines = (path / "steps.jsonl").read_text(encoding="utf-8").splitlines()
    (path / "steps.jsonl").write_text("\n".join(lines[:2]) + "\n", encoding="utf-8")
    (item,) = read_runs(tmp_path)
    assert item.pair.scenario.text == "My computer is slow."


def test_the_page_is_not_told_names_levels_or_checks(tmp_path: Path) -> None:
    (item,) = different_runs(tmp_path)
    told = json.dumps(item_view(item, "b"))
    for secret in (
        "one/000",
        "two/000",
        "attributes",
        "comprehensiveness",
        "attention",
        str(tmp_path),
    ):
        assert secret not in told
    assert [option["side"] for option in item_view(item, "b")["options"]] == ["b", "a"]


BAD_LINES = {
    "not json": ('{"scenario": ', "not valid JSON"),
    "nan": ('{"scenario": NaN}', "needed finite numbers, found NaN"),
    "no mapping": ("[1, 2]", "needed a mapping"),
    "typo": (json.dumps(pair(0) | {"contxt": {}}), "unknown key 'contxt'; did you mean 'context'?"),
    "same ids": (json.dumps(pair(0) | {"b": pair(0)["a"]}), "needed two different recoveries"),
    "empty text": (json.dumps(pair(0) | {"a": {"id": "x", "text": ""}}), "a.text"),
    "unknown state": (
        json.dumps(
            pair(0)
            | {"scenario": {"id": "availability/hidden_minr", "text": "t", "origin": "state"}}
        ),
        "did you mean 'availability/hidden_miner'?",
    ),
    "answered": (
        json.dumps(pair(1) | {"choice": "a"}),
        "found a judgment with a choice among the pairs",
    ),
    "other wording": (
        json.dumps(pair(0) | {"a": {"id": "cancel", "text": "Other."}}),
        "with other text or order",
    ),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_broken_pair_is_refused_with_file_and_line(tmp_path: Path, case: str) -> None:
    line, message = BAD_LINES[case]
    (tmp_path / "p.jsonl").write_text(json.dumps(pair(0)) + "\n\n" + line + "\n", encoding="utf-8")
    with pytest.raises(JudgmentError) as caught:
        require_items(read_texts(tmp_path, 3), tmp_path)
    assert message in str(caught.value) and f"{tmp_path / 'p.jsonl'}:3" in str(caught.value)


def test_a_folder_without_pairs_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["label", str(tmp_path)])
    assert isinstance(
        result.exception, JudgmentError
    ) and "needed pairs to judge, found none" in str(result.exception)
    result = CliRunner().invoke(app, ["label", str(tmp_path / "gone")])
    assert isinstance(result.exception, JudgmentError) and "no such folder" in str(result.exception)
    assert not list(tmp_path.iterdir()), "a refusal leaves no store behind"
    (tmp_path / "file").touch()
    with pytest.raises(JudgmentError, match="found a file"):
        read_texts(tmp_path / "file", 3)


def test_the_pair_in_the_guide_can_be_read(tmp_path: Path) -> None:
    guide = (Path(__file__).resolve().parents[2] / "docs" / "labelling.md").read_text(
        encoding="utf-8"
    )
    example = guide.split("```json\n")[1].split("```")[0]
    (tmp_path / "p.jsonl").write_text(example.replace("\n", "") + "\n", encoding="utf-8")
    assert [item.pair.scenario.id for item in read_texts(tmp_path, 3)] == ["printer-1"]


# ---- who gets what


def test_one_person_judges_every_pair_once(tmp_path: Path) -> None:
    with desk(write_pairs(tmp_path, 8), Settings(double=0.25)) as one:
        seen = work(one, "Ada")
        assert sorted(seen) == sorted(item.key for item in one.items)
        assert one.progress() == (8, 10), "two pairs wait for a second rater"
        assert set(work(one, "Bo")) == one.doubled and len(one.doubled) == 2
        assert one.progress() == (10, 10) and work(one, "Cy") == []


def test_people_at_work_together_share_the_pairs(tmp_path: Path) -> None:
    now = [1000.0]
    with desk(write_pairs(tmp_path, 3), clock=lambda: now[0]) as one:
        for name in ("Ada", "Bo", "Cy", "Di"):
            one.store.register(name)
        held = [one.place(name).current for name in ("Ada", "Bo", "Cy")]
        assert len({item.key for item in held if item}) == 3
        assert one.place("Di").current is None
        now[0] = time.time() + HOLD_S + 1
        assert one.place("Di").current is not None, "a pair that was left alone is given to another"


def test_a_restart_goes_on_where_one_left_off(tmp_path: Path) -> None:
    write_pairs(tmp_path, 20)
    with desk(tmp_path) as one:
        one.store.register("Ada")
        work(one, "Ada", limit=4)
        before = one.place("Ada")
        sides = [one.left_side("Ada", item.key) for item in one.items]
    with desk(tmp_path) as again:
        after = again.place("Ada")
        assert (after.current, after.following, after.done, after.left) == (
            before.current,
            before.following,
            4,
            16,
        )
        assert sides == [again.left_side("Ada", item.key) for item in again.items]
    assert len(set(sides)) == 2


def test_what_follows_is_what_comes_next(tmp_path: Path) -> None:
    with desk(write_pairs(tmp_path, 12), Settings(double=0, attention=0.25)) as one:
        one.store.register("Ada")
        promised, total = None, one.place("Ada").left
        for done in range(total):
            place = one.place("Ada")
            assert place.current is not None and (place.done, place.left) == (done, total - done)
            if promised is not None:
                assert place.current.key == promised.key
            promised = place.following
            one.answer(answer("Ada", place.current.key))
        assert one.place("Ada").current is None and promised is None


def test_attention_checks_come_at_their_share_and_are_never_exported(tmp_path: Path) -> None:
    with desk(write_pairs(tmp_path, 20), Settings(double=0, attention=0.2)) as one:
        one.store.register("Ada")
        checks = 0
        while (item := one.place("Ada").current) is not None:
            checks += item.attention is not None
            wrong = item.attention is not None and checks == 1
            one.answer(answer("Ada", item.key, "b" if wrong else "a"))
    assert 3 <= checks <= 5
    found = collect(tmp_path)
    assert found.checks == {"Ada": (checks, checks - 1)} and len(found.judgments) == 20
    assert not any("attention" in judgment.a.id for judgment in found.judgments)


def test_a_check_may_come_from_the_file(tmp_path: Path) -> None:
    write_pairs(tmp_path, 4)
    (tmp_path / "checks.jsonl").write_text(
        json.dumps(pair(99) | {"attention": "b"}) + "\n", encoding="utf-8"
    )
    with desk(tmp_path) as one:
        assert len(work(one, "Ada")) == 4, "without --attention there are no checks"
    with desk(tmp_path, Settings(double=0, attention=0.5)) as one:
        assert any(item.attention == "b" for item in one.items)


def test_sides_are_drawn_evenly_for_each_person(tmp_path: Path) -> None:
    with desk(write_pairs(tmp_path, 200)) as one:
        sides = {
            name: [one.left_side(name, item.key) for item in one.items] for name in ("Ada", "Bo")
        }
    assert all(70 <= drawn.count("a") <= 130 for drawn in sides.values())
    assert 60 <= sum(x == y for x, y in zip(sides["Ada"], sides["Bo"], strict=True)) <= 140


# ---- store


def test_undo_takes_back_the_last_answer_and_keeps_the_trace(tmp_path: Path) -> None:
    with desk(write_pairs(tmp_path, 5)) as one:
        seen = work(one, "Ada", limit=3)
        back = one.store.undo("Ada")
        assert back is not None and (back.item, back.reason) == (seen[-1], "faster")
        place = one.place("Ada")
        assert place.current is not None and place.current.key == seen[-1] and place.done == 2
        one.answer(answer("Ada", seen[-1], "b"))
        rows = list(one.store.rows())
        assert [row.undone for row in rows] == [False, False, True, False]
        assert one.store.undo("Bo") is None
    found = collect(tmp_path)
    assert found.undone == 1 and found.judgments[-1].choice == "b"


def test_an_answer_sent_twice_counts_once_and_a_second_answer_is_refused(tmp_path: Path) -> None:
    with desk(write_pairs(tmp_path, 2)) as one:
        one.store.register("Ada")
        item = one.place("Ada").current
        assert item is not None
        given = answer("Ada", item.key)
        one.answer(given)
        one.answer(given)
        assert len(list(one.store.rows())) == 1
        with pytest.raises(JudgmentError, match="has answered this pair before"):
            one.answer(answer("Ada", item.key, "b"))
        with pytest.raises(JudgmentError, match="is not known here"):
            one.answer(answer("Nobody", item.key))


def test_answers_are_synced_in_a_write_ahead_log(tmp_path: Path) -> None:
    with Store(tmp_path / FILE) as store:
        assert (
            store._one("PRAGMA journal_mode") == "wal" and store._one("PRAGMA synchronous") == "2"
        )


def test_foreign_and_damaged_stores_are_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text("not a database, but longer than a header", encoding="utf-8")
    with pytest.raises(JudgmentError, match="not SQLite"):
        Store(path)
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE holiday (day TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(JudgmentError, match="another program's SQLite file"):
        Store(path)
    assert path.read_bytes() == before
    path.unlink()
    with desk(write_pairs(tmp_path, 50)) as one:
        work(one, "Ada")
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 8192))
    with pytest.raises(JudgmentError, match=r"labels\.sqlite"):
        Store(path)


def test_a_store_of_another_format_is_refused(tmp_path: Path) -> None:
    Store(tmp_path / FILE).close()
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("PRAGMA user_version = 7")
    db.close()
    with pytest.raises(JudgmentError, match="needed labels of format 1, found format 7"):
        Store(tmp_path / FILE)


# ---- export


def test_export_gives_what_was_answered_in_the_judgment_format(tmp_path: Path) -> None:
    levels_a, levels_b = LEVELS | {"speed": 5}, LEVELS | {"speed": 1}
    with desk(write_pairs(tmp_path, 6), Settings(double=0.5, ratings=True)) as one:
        for name, choice in (("Ada", "a"), ("Bo", "b")):
            one.store.register(name)
            while (item := one.place(name).current) is not None:
                one.answer(answer(name, item.key, choice, ratings_a=levels_a, ratings_b=levels_b))
        sides = {
            (name, item.key): one.left_side(name, item.key)
            for name in ("Ada", "Bo")
            for item in one.items
        }
        keys = {item.pair.scenario.id: item.key for item in one.items}
    found = export(tmp_path, tmp_path / "labels.jsonl")
    judgments = load_judgments(tmp_path / "labels.jsonl")
    assert judgments == list(found.judgments) and len(judgments) == 9
    for judgment in judgments:
        assert judgment.source == "human" and judgment.reason == "faster" and judgment.time_s == 4.2
        assert judgment.choice == {"Ada": "a", "Bo": "b"}[judgment.annotator]
        assert judgment.shown_left == sides[judgment.annotator, keys[judgment.scenario.id]]
        assert (
            judgment.ratings_a is not None
            and judgment.ratings_a.speed == 5
            and judgment.context.time_pressure
        )
    figures = found.figures()
    assert (figures["double_rated_pairs"], figures["agreement"], figures["with_ratings"]) == (
        3,
        0.0,
        9,
    )
    assert len(read_texts(tmp_path, 3)) == 6, "an export beside the pairs is not read as pairs"


def test_answers_outlive_the_files_they_came_from(tmp_path: Path) -> None:
    with desk(write_pairs(tmp_path, 3)) as one:
        work(one, "Ada")
    (tmp_path / "pairs.jsonl").unlink()
    assert len(export(tmp_path, tmp_path / "out.jsonl").judgments) == 3


def test_nothing_to_export_is_said(tmp_path: Path) -> None:
    with pytest.raises(JudgmentError, match="no answers here yet"):
        export(tmp_path, tmp_path / "out.jsonl")
    Store(tmp_path / FILE).close()
    with pytest.raises(JudgmentError, match="needed at least one answer"):
        export(tmp_path, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_the_command_exports_and_prints_figures(tmp_path: Path) -> None:
    with desk(write_pairs(tmp_path, 3)) as one:
        work(one, "Ada")
    target = tmp_path / "out" / "x.jsonl"
    target.parent.mkdir()
    result = CliRunner().invoke(
        app, ["label", "export", str(tmp_path), "--out", str(target), "--json"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["sources"] == {"human": 3}
    result = CliRunner().invoke(app, ["label", "export", str(tmp_path), "--out", str(target)])
    assert "3 human judgments" in result.stdout and "left share" in result.stdout


# ---- server


def next_item(reply: dict[str, Any]) -> str:
    return str(reply["current"]["key"])


def test_the_server_lets_in_only_who_has_the_token(tmp_path: Path) -> None:
    with serving(write_pairs(tmp_path)) as server:
        assert server.call("/api/start")[0] == 200
        status, reply = server.call("/", Cookie="x=1; harmgym_label=no")
        assert status == 403 and "open the address" in reply["error"]
        assert server.call("/api/start", Cookie=None)[0] == 403
        assert server.call("/?token=wrong", Cookie=None)[0] == 403
        assert server.call("/?token=%F0%9F", Cookie=None)[0] == 403
        status, reply = server.call(f"/?token={server.token}", Cookie=None)
        assert (
            status == 303
            and "HttpOnly" in reply["headers"]["Set-Cookie"]
            and reply["headers"]["Location"] == "/"
        )
        for host in ("evil.example", "evil.example:80", "", None):
            assert server.call("/api/start", Host=host)[0] in (400, 403)
        assert (
            server.call("/api/annotators", {"annotator": "Ada"}, Origin="http://evil.example")[0]
            == 403
        )
        assert (
            server.call("/api/annotators", {"annotator": "Ada"}, Origin=f"http://{server.host}")[0]
            == 200
        )
        status, reply = server.call("/")
        policy = reply["headers"]["Content-Security-Policy"]
        assert status == 200 and "default-src 'none'" in policy and "unsafe" not in policy
        assert "http://" not in reply["text"] and "https://" not in reply["text"]
        for path in (
            "/../server.py",
            "/%2e%2e/server.py",
            "/app.js/..",
            "/picture/../a/0",
            "/picture/00/a/-1",
        ):
            assert server.call(path)[0] in (400, 404)


def test_the_server_refuses_bad_bodies_and_goes_on(tmp_path: Path) -> None:
    with serving(write_pairs(tmp_path)) as server:
        _, reply = server.call("/api/annotators", {"annotator": "Ada"})
        good = answer("Ada", next_item(reply)).model_dump()
        assert server.call("/api/answers", b"x" * 70_000)[0] == 413
        assert server.call("/api/answers", b"{}", Content_Length="9" * 30)[0] in (400, 413)
        assert server.call("/api/answers", b"{}", Content_Length="-1")[0] in (400, 411)
        assert server.call("/api/answers", b"{", Content_Type="application/json")[0] == 400
        assert server.call("/api/answers", b"[" * 60_000)[0] == 400
        assert server.call("/api/answers", b"[]")[0] == 400
        assert server.call("/api/answers", good, Content_Type="text/plain")[0] == 415
        raw = json.dumps(good | {"time_s": float("nan")}).encode()
        assert "finite" in server.call("/api/answers", raw)[1]["error"]
        nan_rating = json.dumps(
            good | {"ratings_a": LEVELS | {"speed": float("nan")}, "ratings_b": LEVELS}
        ).encode()
        assert server.call("/api/answers", nan_rating)[0] == 400
        bad = [
            {"ratings_a": LEVELS | {"speed": 6}, "ratings_b": LEVELS},
            {"ratings_a": LEVELS},
            {"choice": "c"},
            {"time_s": -1},
            {"time_s": 1e9},
            {"reason": "x" * 5000},
            {"reason": "\ud800"},
            {"item": "0" * 24},
            {"annotator": "x" * 100},
            {"annotator": "a\nb"},
            {"extra": 1},
        ]
        for changes in bad:
            status, reply = server.call("/api/answers", good | changes)
            assert status == 400 and reply["error"], changes
        for name in ("", " Ada", "\u202eevil", 7, None):
            assert server.call("/api/annotators", {"annotator": name})[0] == 400
        assert server.call("/api/answers", good)[0] == 200
        assert server.call("/api/start")[1]["given"] == 1


def test_other_methods_and_bodies_without_a_length_are_refused(tmp_path: Path) -> None:
    with serving(write_pairs(tmp_path)) as server:
        assert server.call("/api/undo")[0] == 405
        assert server.call("/", {"annotator": "Ada"})[0] == 405
        chunked = b'13\r\n{"annotator":"Ada"}\r\n0\r\n\r\n'
        status, reply = server.call(
            "/api/annotators", chunked, Content_Length=None, Transfer_Encoding="chunked"
        )
        assert status == 411 and "Content-Length" in reply["error"]
        assert server.call("/api/start", X_Forwarded_Host="evil.example")[0] == 200
        assert server.call("/api/start")[1]["annotators"] == []


def test_every_answer_carries_the_headers_that_fence_the_page_in(tmp_path: Path) -> None:
    with serving(write_pairs(tmp_path)) as server:
        for path, cookie in (("/", "x=1"), ("/nothing", None), ("/api/start", None)):
            given = {"Cookie": cookie} if cookie else {}
            for name in ("Content-Security-Policy", "X-Content-Type-Options", "Cache-Control"):
                assert name in server.headers(path, **given), (path, name)


def test_sigterm_ends_it_in_order(tmp_path: Path) -> None:
    with serving(write_pairs(tmp_path)) as server:
        server.process.terminate()
        _, said = server.process.communicate(timeout=30)
    assert server.process.returncode == 0 and "export them with" in said


def test_ratings_are_needed_where_they_are_asked(tmp_path: Path) -> None:
    with serving(write_pairs(tmp_path), "--ratings") as server:
        assert len(server.call("/api/start")[1]["ratings"]) == 8
        _, reply = server.call("/api/annotators", {"annotator": "Ada"})
        good = answer("Ada", next_item(reply)).model_dump()
        assert "eight ratings" in server.call("/api/answers", good)[1]["error"]
        assert (
            server.call("/api/answers", good | {"ratings_a": LEVELS, "ratings_b": LEVELS})[0] == 200
        )


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    with serving(write_pairs(tmp_path)) as server:
        port = server.host.rsplit(":", 1)[1]
        result = CliRunner().invoke(app, ["label", str(tmp_path), "--port", port])
        assert isinstance(result.exception, JudgmentError)
        assert f"port {port} on 127.0.0.1 is in use; choose another with --port" in str(
            result.exception
        )
        assert "0 of 7 answers given" in server.stop() and server.process.returncode == 0


def test_kill_9_loses_no_acknowledged_answer(tmp_path: Path) -> None:
    write_pairs(tmp_path, 400)
    acknowledged: set[str] = set()
    for round_ in range(4):
        with serving(tmp_path) as server:
            people = [f"Person {n}" for n in range(3)]
            threads = [
                threading.Thread(target=post_until_it_dies, args=(server, who, acknowledged))
                for who in people
            ]
            for thread in threads:
                thread.start()
            goal = 12 * (round_ + 1)
            while len(acknowledged) < goal and any(thread.is_alive() for thread in threads):
                threads[0].join(0.01)
            server.kill()
            for thread in threads:
                thread.join()
        with Store(tmp_path / FILE) as store:
            kept = {row.answer.id for row in store.rows()}
        assert len(acknowledged) >= goal and acknowledged <= kept
        assert len(kept - acknowledged) <= 3 * (round_ + 1), (
            "no more than one unacknowledged answer per person and kill"
        )


def post_until_it_dies(server: Any, name: str, acknowledged: set[str]) -> None:
    try:
        status, reply = server.call("/api/annotators", {"annotator": name})
        while status == 200 and reply["current"]:
            given = answer(name, next_item(reply)).model_dump()
            status, reply = server.call("/api/answers", given)
            assert status == 200, reply
            acknowledged.add(given["id"])
    except (OSError, http.client.HTTPException, ValueError):
        return


def test_pictures_are_served_from_the_run_alone(tmp_path: Path) -> None:
    different_runs(tmp_path)
    with serving(tmp_path) as server:
        _, reply = server.call("/api/annotators", {"annotator": "Ada"})
        steps = reply["current"]["options"][0]["steps"]
        link = steps[0]["picture"]
        port = int(server.host.rsplit(":", 1)[1])
        raw = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        raw.request("GET", link, headers={"Cookie": f"harmgym_label_{port}={server.token}"})
        picture = raw.getresponse()
        assert (
            picture.status == 200
            and picture.headers["Content-Type"] == "image/webp"
            and picture.read()[8:12] == b"WEBP"
        )
        raw.close()
        assert server.call(link.rsplit("/", 1)[0] + "/999")[0] == 404
        assert server.call(link, Cookie=None)[0] == 403


def test_a_whole_run_with_every_kind_of_end_can_be_read(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    assert read_runs(tmp_path / "run") == read_runs(tmp_path) == []
