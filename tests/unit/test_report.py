"""The report: right figures, nothing an agent wrote can run, and a page that works in a real
browser.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sample_run

from harmgym.report import write_report
from harmgym.report.images import LADDER, fitting_album
from harmgym.report.summary import summarise, wilson
from harmgym.runs.folder import RunFolder, episode_folders, read_episode
from harmgym.runs.words import cut, describe, reflow, signed

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_run.make_run(tmp_path_factory.mktemp("runs") / "sample")


@pytest.fixture(scope="module")
def page(run: Path) -> Path:
    return write_report(run)


def test_rates_leave_broken_machines_out(run: Path) -> None:
    summary = summarise([read_episode(folder) for folder in episode_folders(run)])
    assert (summary.episodes, summary.counted, summary.infra_failures) == (4, 3, 1)
    assert summary.safe == pytest.approx(2 / 3) and summary.clean == pytest.approx(1 / 3)
    assert summary.reward == pytest.approx((0.71 + 0.3 - 0.25) / 3)
    assert summary.reset_ms == pytest.approx(42) and summary.step_ms == pytest.approx(9100 / 5)


def test_episodes_that_touched_the_canary_are_counted(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", sample_run.info()) as folder:
        sample_run.add_episode(folder)
        sample_run.add_episode(folder, canary="named in the action of step 1")
    episodes = [read_episode(f) for f in episode_folders(tmp_path / "run")]
    assert summarise(episodes).canaries == 1 and summarise(episodes[:1]).canaries == 0
    assert "touched the canary" in write_report(tmp_path / "run").read_text()


def test_wilson_interval_against_known_values() -> None:
    assert wilson(0, 0) is None
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Wilson 1927, z = 1.96
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


def test_nothing_counts_when_every_machine_broke(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", sample_run.info()) as folder:
        sample_run.add_episode(folder, fault=True)
    summary = summarise([read_episode(f) for f in episode_folders(tmp_path / "run")])
    assert summary.safe is None and summary.reward is None and summary.infra_failures == 1
    assert "The run was not finished" in write_report(tmp_path / "run").read_text()


def test_a_run_without_episodes_has_a_page(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", sample_run.info()).__exit__()
    assert "No episode is finished yet" in write_report(tmp_path / "run").read_text()


def test_the_page_holds_everything_and_asks_for_nothing(page: Path) -> None:
    text = page.read_text()
    markup = re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.S)
    assert not re.search(r'(?:src|href)="(?!#|data:)', markup)
    assert "default-src 'none'" in text
    told = "People would prefer this to the reference recovery with probability 36%, at least 31%"
    for words in (
        "Cron lines",
        "The user&#39;s backup line is gone.",
        "did not answer",
        "machine fault",
        "Side harms",
        "+0.71",
        told,
    ):
        assert words in text, words
    assert page.stat().st_size < 2**21


def test_what_an_agent_wrote_stays_text(page: Path) -> None:
    text = page.read_text()
    assert sample_run.HOSTILE not in text
    data = re.search(r'<script type="application/json" id="steps">(.*?)</script>', text, re.S)
    assert data and sample_run.HOSTILE in json.loads(data[1])["episode-000"][5]["caption"]


def test_equal_screens_are_kept_once(run: Path) -> None:
    pictures = [p for folder in episode_folders(run) for p in sorted(folder.glob("*.webp"))]
    album = fitting_album(pictures)
    assert len(pictures) == 24 and len(album.data) == 6


def test_many_pictures_are_made_smaller(run: Path) -> None:
    pictures = sorted(episode_folders(run)[0].glob("*.webp"))
    assert fitting_album(pictures, budget=1).width == LADDER[-1][0]
    assert fitting_album(pictures).width == LADDER[0][0]


def test_a_missing_picture_does_not_spoil_the_page(tmp_path: Path) -> None:
    path = sample_run.make_run(tmp_path / "run")
    (path / "episodes/000/step-001.webp").write_bytes(b"no picture")
    (path / "episodes/000/step-002.webp").unlink()
    assert write_report(path).stat().st_size > 10_000


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (None, "The desktop as the agent found it"),
        ({"type": "shell", "command": "ls"}, "ls"),
        ({"type": "click", "x": 1, "y": 2, "count": 2}, "double click at (1, 2)"),
        ({"type": "click", "x": 1, "y": 2, "button": "right"}, "right click at (1, 2)"),
        ({"type": "drag", "x": 1, "y": 2, "to_x": 3, "to_y": 4}, "drag (1, 2) to (3, 4)"),
        ({"type": "message", "text": "hi", "to": "user"}, "to user: hi"),
        ({"type": "done", "report": ""}, "done, without a report"),
        ({"type": "malformed", "text": "?"}, "{'type': 'malformed', 'text': '?'}"),
    ],
)
def test_actions_in_words(action: dict[str, Any] | None, words: str) -> None:
    assert describe(action) == words


def test_figures_have_a_sign_unless_they_are_nothing() -> None:
    assert [signed(value) for value in (0.256, -0.25, 0.0, -0.004)] == [
        "+0.26",
        "−0.25",
        "0.00",
        "0.00",
    ]


def test_paragraphs_are_reflowed_and_lists_are_not() -> None:
    assert reflow("one\ntwo\n\nthree\n- a\n- b\n1. c") == "one two\n\nthree\n- a\n- b\n1. c"


def test_long_text_keeps_both_ends() -> None:
    short = cut("a" * 50 + "b" * 50, 40)
    assert (
        short.startswith("a" * 20)
        and short.endswith("b" * 20)
        and "60 characters not shown" in short
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no Chromium on PATH; install it with: apt-get install chromium")
    with sync.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.mark.browser
class TestInBrowser:
    def open(self, browser: Any, page: Path, **options: Any) -> Any:
        tab = browser.new_context(**options).new_page()
        tab.complaints = []
        tab.on("console", lambda m: tab.complaints.append(m.text))
        tab.on("pageerror", lambda e: tab.complaints.append(str(e)))
        tab.on(
            "request",
            lambda r: (
                tab.complaints.append(r.url) if not r.url.startswith(("file:", "data:")) else None
            ),
        )
        tab.goto(page.as_uri())
        return tab

    def test_the_player_goes_through_the_steps(self, browser: Any, page: Path) -> None:
        tab = self.open(browser, page)
        player = tab.locator(".player").first
        first = player.locator("img").get_attribute("src")
        player.locator("input[type=range]").fill("3")
        assert "pkill -f metricsd" in player.locator(".caption").text_content()
        assert player.locator("img").get_attribute("src") != first
        assert "line 35" in tab.locator(".terminal").first.text_content()
        player.focus()
        tab.keyboard.press("ArrowLeft")
        assert player.locator(".error").text_content() == "window not found"
        assert player.locator(".pointer").is_visible()
        tab.keyboard.press("End")
        assert "5 / 5" in player.locator(".where").text_content()
        tab.keyboard.press("Home")
        assert player.locator("img").get_attribute("src") == first
        tab.locator(".steps button").nth(4).click()
        assert "I stopped a hidden program" in player.locator(".caption").text_content()
        assert tab.complaints == [] and tab.title() == "sample – harmgym run"

    def test_play_runs_to_the_end(self, browser: Any, page: Path) -> None:
        tab = self.open(browser, page)
        player = tab.locator(".player").first
        player.locator("input").fill("4")
        player.locator(".play").click()
        tab.locator(".where", has_text="5 / 5").first.wait_for(timeout=10_000)
        assert player.locator(".play").get_attribute("aria-label") == "Play"

    def test_the_filter_shows_what_was_asked_for(self, browser: Any, page: Path) -> None:
        tab = self.open(browser, page)
        for name, count in (("Not safe", 1), ("Collateral", 1), ("Machine faults", 1), ("All", 4)):
            tab.get_by_role("button", name=name, exact=True).click()
            assert tab.locator("tbody tr:visible").count() == count
            assert tab.locator("details.episode:visible").count() == count

    def test_light_and_dark(self, browser: Any, page: Path) -> None:
        colour = "getComputedStyle(document.body).backgroundColor"
        light = self.open(browser, page, color_scheme="light")
        dark = self.open(browser, page, color_scheme="dark")
        assert light.evaluate(colour) != dark.evaluate(colour)
        was = light.evaluate(colour)
        light.locator("#theme").click()
        assert light.evaluate(colour) == dark.evaluate(colour) != was

    @pytest.mark.parametrize("width", [1280, 390])
    def test_nothing_sticks_out(self, browser: Any, page: Path, width: int) -> None:
        tab = self.open(browser, page, viewport={"width": width, "height": 800})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
