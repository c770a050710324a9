"""The labelling page in headless Chromium, worked by keyboard like a person would."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from label_fixture import serving, write_pairs
from sample_run import HOSTILE
from test_label import different_runs

from harmgym.preferences.labelling.export import collect
from harmgym.preferences.labelling.store import FILE, Store

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium"),
]
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def new_page(browser: Any) -> Iterator[Open]:
    """Opens pages; the test fails on anything that one of them complains about or asks another host
    for.
    """
    contexts, complaints = [], []

    def new(width: int = 1280, height: int = 800, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda line: (
                complaints.append(line.text) if line.type in ("error", "warning") else None
            ),
        )
        page.on(
            "request",
            lambda r: (
                complaints.append(r.url) if not r.url.startswith("http://127.0.0.1:") else None
            ),
        )
        page.complaints = complaints
        return page

    yield new
    for context in contexts:
        context.close()
    assert complaints == []


def begin(page: Any, url: str, name: str = "Ada") -> None:
    page.goto(url)
    page.wait_for_selector("#name:focus")
    page.keyboard.type(name)
    page.keyboard.press("Enter")
    page.wait_for_selector("#work:not([hidden])")


def counted(page: Any, text: str) -> None:
    page.wait_for_function(
        "text => document.getElementById('count').textContent === text", arg=text
    )


def rows(folder: Path) -> list[Any]:
    with Store(folder / FILE) as store:
        return list(store.rows())


def test_everything_by_keyboard_alone(tmp_path: Path, new_page: Open) -> None:
    with serving(write_pairs(tmp_path, 4), "--double", "0") as server:
        page = new_page()
        begin(page, server.url)
        assert "token" not in page.url, "the token does not stay in the address"
        counted(page, "0 of 4")
        page.keyboard.press("Enter")
        page.wait_for_selector("#alert:has-text('Choose A or B first')")
        page.keyboard.press("1")
        page.keyboard.press("r")
        page.keyboard.type("z 2 b is quicker")
        page.keyboard.press("Shift+Enter")
        page.keyboard.type("and safe")
        page.keyboard.press("Enter")
        counted(page, "1 of 4")
        assert page.locator("#alert").is_hidden()
        page.keyboard.press("b")
        page.keyboard.press("Enter")
        counted(page, "2 of 4")
        second = page.locator("#text").inner_text()
        page.keyboard.press("z")
        counted(page, "1 of 4")
        assert page.locator("#text").inner_text() != second
        assert page.locator("[name=choice]").nth(1).is_checked(), (
            "what was answered is there to be changed"
        )
        page.keyboard.press("a")
        page.keyboard.press("Enter")
        for done in (2, 3):
            counted(page, f"{done} of 4")
            page.keyboard.press("2")
            page.keyboard.press("Enter")
        page.wait_for_selector("#finish:not([hidden])")
        assert "You judged 4 pairs" in page.locator("#finish-text").inner_text()
    kept = [row for row in rows(tmp_path) if not row.undone]
    chosen = ["left" if row.answer.choice == row.shown_left else "right" for row in kept]
    assert chosen == ["left", "left", "right", "right"]
    assert kept[0].answer.reason == "z 2 b is quicker\nand safe"
    assert all(0 < row.answer.time_s < 60 for row in kept)


def test_nothing_is_lost_by_reload_or_kill_9(tmp_path: Path, new_page: Open) -> None:
    write_pairs(tmp_path, 3)
    page = new_page()
    with serving(tmp_path, "--double", "0") as server:
        begin(page, server.url)
        page.keyboard.press("1")
        page.keyboard.press("Enter")
        counted(page, "1 of 3")
        page.keyboard.press("2")
        page.keyboard.press("r")
        page.keyboard.type("half a tho")
        story = page.locator("#text").inner_text()
        page.reload()
        counted(page, "1 of 3")
        assert page.locator("#text").inner_text() == story
        assert (
            page.locator("#reason").input_value() == "half a tho"
            and page.locator("[name=choice]").nth(1).is_checked()
        )
        port = server.host.rsplit(":", 1)[1]
        server.kill()
        page.keyboard.press("Enter")
        page.wait_for_selector("#alert:has-text('does not answer')")
        assert page.locator("#reason").input_value() == "half a tho"
    with serving(tmp_path, "--double", "0", "--port", port) as server:
        page.keyboard.press("Enter")
        page.wait_for_selector("#alert:has-text('started anew')")
        page.goto(server.url)
        counted(page, "1 of 3")
        assert (
            page.locator("#text").inner_text() == story
            and page.locator("#reason").input_value() == "half a tho"
        )
        page.keyboard.press("Enter")
        counted(page, "2 of 3")
    assert [row.answer.reason for row in rows(tmp_path)] == ["", "half a tho"]
    refused = [
        line for line in page.complaints if "ERR_CONNECTION_REFUSED" in line or "403" in line
    ]
    assert refused == page.complaints and len(refused) == 2, (
        "the browser itself notes the two failed requests, and nothing else"
    )
    page.complaints.clear()


def test_eight_ratings_by_digits(tmp_path: Path, new_page: Open) -> None:
    with serving(write_pairs(tmp_path, 2), "--ratings", "--double", "0") as server:
        page = new_page()
        begin(page, server.url)
        page.keyboard.press("1")
        page.keyboard.press("Enter")
        page.wait_for_selector("#alert:has-text('ratings are still open')")
        assert page.locator(".open-now").count() == 16
        for level in "5432112345123451":
            page.keyboard.press(level)
        assert page.locator(".open-now").count() == 0
        page.keyboard.press("Enter")
        counted(page, "1 of 2")
        page.keyboard.press("z")
        counted(page, "0 of 2")
        assert page.locator(".rate input:checked").count() == 16, (
            "ratings come back when an answer is taken back"
        )
        page.keyboard.press("Enter")
        counted(page, "1 of 2")
    judgment = collect(tmp_path).judgments[0]
    left, right = (
        (judgment.ratings_a, judgment.ratings_b)
        if judgment.shown_left == "a"
        else (judgment.ratings_b, judgment.ratings_a)
    )
    assert left is not None and list(left.vector()) == [5, 4, 3, 2, 1, 1, 2, 3]
    assert right is not None and list(right.vector()) == [4, 5, 1, 2, 3, 4, 5, 1]


def test_several_people_and_sides_of_their_own(tmp_path: Path, new_page: Open) -> None:
    with serving(write_pairs(tmp_path, 12), "--double", "1") as server:
        orders = {}
        for name in ("Ada", "Bo"):
            page = new_page()
            begin(page, server.url, name)
            seen = []
            for done in range(12):
                counted(page, f"{done} of 12")
                seen.append(
                    (page.locator("#text").inner_text(), page.locator(".plan").first.inner_text())
                )
                page.keyboard.press("1")
                page.keyboard.press("Enter")
            page.wait_for_selector("#finish:not([hidden])")
            orders[name] = seen
    assert [text for text, _ in orders["Ada"]] != [text for text, _ in orders["Bo"]]
    assert sorted(orders["Ada"]) != sorted(orders["Bo"]), "sides differ between people"
    figures = collect(tmp_path).figures()
    assert (figures["annotators"], figures["double_rated_pairs"], figures["left_share"]) == (
        2,
        12,
        1.0,
    )


def test_runs_show_pictures_steps_and_outcome(tmp_path: Path, new_page: Open) -> None:
    different_runs(tmp_path)
    with serving(tmp_path) as server:
        page = new_page()
        begin(page, server.url)
        page.wait_for_function(
            "() => [...document.querySelectorAll('.shot img')].every(i => i.complete && "
            "i.naturalWidth === 1280)"
        )
        assert page.locator(".shot").count() == 8
        assert (
            HOSTILE in page.locator("blockquote").first.inner_text()
            and page.title() == "Which recovery?"
        )
        assert (
            page.locator(".outcome .bad").count() >= 1
            and page.locator(".outcome .good").count() >= 1
        )
        page.keyboard.press("p")
        page.keyboard.press("Enter")
        page.wait_for_selector("#viewer[open]")
        page.keyboard.press("ArrowRight")
        assert "2 of" in page.locator("#viewer-place").inner_text()
        page.keyboard.press("1")
        page.keyboard.press("Escape")
        assert (
            page.locator("#viewer[open]").count() == 0
            and page.locator("[name=choice]:checked").count() == 0
        )
        assert page.evaluate("document.activeElement.className") == "shot", (
            "focus returns to the picture"
        )


LUMINANCE = """() => {
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = (c) => parse(c).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = (n) => { for (; n; n = n.parentElement) {
    const c = getComputedStyle(n).backgroundColor;
    if (parse(c)[3] !== 0) return c; } return 'rgb(255,255,255)'; };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const poor = [];
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !node.offsetParent) continue;
    if (node.closest(':disabled, .sr')) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(ground(node))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) poor.push(`${walker.currentNode.textContent.trim()}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_can_be_read_in_light_and_dark_on_desk_and_phone(
    tmp_path: Path, new_page: Open, scheme: str, width: int
) -> None:
    with serving(write_pairs(tmp_path, 2), "--ratings") as server:
        page = new_page(width, 800, color_scheme=scheme, reduced_motion="reduce")
        begin(page, server.url)
        page.keyboard.press("1")
        assert page.evaluate(LUMINANCE) == [], "text against its ground: at least 4.5 to 1"
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (
            "nothing sticks out sideways"
        )
        left, right = (page.locator(f"#option-{at}").bounding_box() for at in (0, 1))
        assert (left["y"] == right["y"]) == (width == 1280) and (left["x"] == right["x"]) == (
            width == 390
        )
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (int(dark[4:].split(",")[0]) < 60) == (scheme == "dark")
        for target in (".pick", "#next", ".scale label"):
            box = page.locator(target).first.bounding_box()
            assert box["height"] >= (44 if width == 390 else 36) and box["width"] >= 40
        unnamed = (
            "[...document.querySelectorAll('button, input, textarea')]"
            ".filter(n => n.offsetParent && !(n.labels?.length || "
            "n.getAttribute('aria-label') || n.textContent.trim())).length"
        )
        assert page.evaluate(unnamed) == 0


def test_the_answer_bar_does_not_move_between_pairs(tmp_path: Path, new_page: Open) -> None:
    with serving(write_pairs(tmp_path, 3), "--double", "0") as server:
        page = new_page()
        begin(page, server.url)
        before = page.locator("#dock").bounding_box()
        page.keyboard.press("1")
        assert page.locator("#dock").bounding_box() == before
        page.keyboard.press("Enter")
        counted(page, "1 of 3")
        assert page.locator("#dock").bounding_box() == before
        start = time.perf_counter()
        page.keyboard.press("2")
        page.keyboard.press("Enter")
        counted(page, "2 of 3")
        assert time.perf_counter() - start < 5
