"""The readers of JSON and YAML: whatever is wrong with a file is one sentence that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harmgym.errors import RunError
from harmgym.records import Record, load_yaml, read_json, read_json_lines, read_record

BROKEN = {
    "long integer": (b'{"a": ' + b"9" * 5000 + b"}", "an integer of too many digits"),
    "latin-1": (b"\xff", "needed UTF-8 text, byte 0 is not"),
}
JSON = BROKEN | {
    "nested": (b"[" * 100_000, "nested too deeply"),
    "list": (b"[]", "needed a JSON object, found list"),
    "cut": (b'{"a": 1', "not valid JSON (Expecting ',' delimiter at character 8)"),
    "second line": (b'{\n"a" 1}', "at line 2, character 5"),
    "nan": (b'{"a": NaN}', "needed finite numbers, found NaN"),
}
YAML = BROKEN | {
    "nested lists": (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    "nested lines": (b"- " * 100_000 + b"a", "nested too deeply"),
    "date": (b"a: 2024-13-45", "month must be in 1..12"),
    "control": (b"a: \x01", "not valid YAML"),
    "unclosed": (b"a: [1", "not valid YAML"),
}


class Point(Record):
    x: float


@pytest.mark.parametrize("case", JSON)
def test_broken_json_is_one_sentence(tmp_path: Path, case: str) -> None:
    content, words = JSON[case]
    (tmp_path / "f.json").write_bytes(content)
    with pytest.raises(RunError) as caught:
        read_json(tmp_path / "f.json", RunError)
    said = str(caught.value)
    assert words in said and said.startswith(str(tmp_path / "f.json"))
    assert "\n" not in said and len(said) < 400


@pytest.mark.parametrize("case", YAML)
def test_broken_yaml_is_one_sentence(tmp_path: Path, case: str) -> None:
    content, words = YAML[case]
    (tmp_path / "f.yaml").write_bytes(content)
    with pytest.raises(RunError) as caught:
        load_yaml(tmp_path / "f.yaml", RunError)
    said = str(caught.value)
    assert words in said and "f.yaml" in said and "\n" not in said and len(said) < 400


def test_a_missing_file_and_a_folder_are_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="file not found; make it"):
        read_json(tmp_path / "none", RunError, "make it")
    with pytest.raises(RunError, match="cannot be read"):
        read_json(tmp_path, RunError)


def test_a_number_beyond_any_float_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"x": ' + "9" * 4000 + "}")
    with pytest.raises(RunError, match="x: Input should be a valid number"):
        read_record(tmp_path / "p.json", Point, RunError)


def test_a_line_ends_at_a_newline_only(tmp_path: Path) -> None:
    """U+2028 and U+0085 may stand in JSON as they are; str.splitlines() would cut there."""
    (tmp_path / "l.jsonl").write_text('{"a": "x\u2028y\x85z"}\n\n{"a": 2}\n', encoding="utf-8")
    found = list(read_json_lines(tmp_path / "l.jsonl", RunError))
    assert found == [
        (f"{tmp_path / 'l.jsonl'}:1", {"a": "x\u2028y\x85z"}),
        (f"{tmp_path / 'l.jsonl'}:3", {"a": 2}),
    ]
