"""Does a text say something? Asked as a reader would: a figure is the same in digits and in words,
with another decimal mark, spread over lines or in letters that only look like the usual ones.

What it cannot read is a cipher: a text that was encrypted or written in another language says
nothing to it.
"""

from __future__ import annotations

import base64
import binascii
import functools
import html
import re
import unicodedata
import urllib.parse
from collections.abc import Iterator

LOOKALIKES = str.maketrans(
    "абвгдезіїјклмнопрстухуѕԁԛԝһαβεγικνορτυχηωⅼ",
    "abbrde3iijklmhonpctyxysdqwhabeyiknoptuxnwl",
)
"""Small Cyrillic and Greek letters, and the Latin ones that they are taken for."""
ENCODED = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
LETTERS_FOR_DIGITS = ("oieasgtb", "01345678"), ("oleasgtb", "01345678")
TEXT_CHARS = 1 << 14
"""Characters of a text that are read: what people say is shorter."""


def plain(text: str) -> str:
    """Return a text in small Latin letters and digits as a reader takes it in: entities and
    percent signs undone, compatible forms and look-alikes replaced, what is invisible left out.
    """
    text = text[:TEXT_CHARS]
    for _ in range(3):
        text = html.unescape(text)
    if re.search(r"%[0-9a-fA-F]{2}", text):
        text = urllib.parse.unquote(text)
    text = unicodedata.normalize("NFKD", text).casefold().translate(LOOKALIKES)
    return "".join(_simple(char) for char in text)


def _simple(char: str) -> str:
    kind = unicodedata.category(char)
    if kind in ("Cf", "Mn", "Me") or (kind == "Cc" and not char.isspace()):
        return ""
    digit = unicodedata.decimal(char, None)
    if digit is not None:
        return str(digit)
    if kind == "Pd" or char == "−":
        return "-"
    return "." if char in "·•∙⋅٫⸳。" else char


@functools.lru_cache(maxsize=512)
def readings(text: str) -> tuple[str, ...]:
    """Return the texts that a reader may take from one: it itself, with number words as digits, and
    what is written in it in base64 or hexadecimal.
    """
    simple = [plain(layer) for layer in (text, *_decoded(text))]
    return tuple(dict.fromkeys([*simple, *map(words_as_digits, simple)]))


def _decoded(text: str) -> Iterator[str]:
    for found in ENCODED.findall(text[:TEXT_CHARS])[:20]:
        for decode in (bytes.fromhex, base64.b64decode, base64.urlsafe_b64decode):
            try:
                data = decode(found)
            except (ValueError, binascii.Error):
                continue
            if sum(32 <= byte < 127 or byte in (9, 10, 13) for byte in data) > 0.9 * len(data):
                yield data.decode("utf-8", "replace")


# Names
def says_name(text: str, name: str) -> bool:
    """Whether a text holds a name, spaced out, split or with digits for letters as may be."""
    letters = [re.escape(char) for char in plain(name) if char.isalnum()]
    pattern = re.compile(r"(?<![a-z])" + r"[\W_]{0,3}".join(letters) + r"(?![a-z])")
    for reading in readings(text):
        spelled = [reading.translate(str.maketrans(to, of)) for of, to in LETTERS_FOR_DIGITS]
        if any(pattern.search(one) for one in (reading, *spelled)):
            return True
    return False


# Numbers
SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
VALUE = {word: n for n, word in enumerate(SMALL)} | {word: 10 * n for n, word in enumerate(TENS, 2)}
VALUE |= {"oh": 0, "nought": 0, "nil": 0, "fourty": 40}
MARK = ("point", "dot", "comma", "decimal")
WORD = re.compile(rf"\b(?:{'|'.join((*VALUE, 'hundred', *MARK, 'and', 'tenths?'))})\b")
UNITS = {
    "k": 1e3, "thousand": 1e3, "grand": 1e3, "m": 1e6, "mn": 1e6, "mm": 1e6, "mio": 1e6,
    "mil": 1e6, "mill": 1e6, "million": 1e6, "millions": 1e6, "bn": 1e9, "billion": 1e9,
}  # fmt: skip
_GAP = r"[\s_*~|/'\"()\[\]{}-]{0,4}"
_POINT = rf"{_GAP}(?:[.,]|\b(?:{'|'.join(MARK)})\b){_GAP}"
GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:[., '’_]\d{3})+(?:[.,]\d+)?(?!\d)")
SIMPLE = re.compile(r"(?<!\d)\d+(?:[.,]\d+)?")
UNIT = re.compile(rf"[\s_-]*({'|'.join(sorted(UNITS, key=len, reverse=True))})\b")


def words_as_digits(text: str) -> str:
    """Return a text with its English number words as digits: "forty-seven point nine" is 47.9, as
    are "four seven point nine" and "forty-seven and nine tenths".
    """
    out, at = [], 0
    for run in _runs(text):
        start, end = run[0].start(), run[-1].end()
        out += [text[at:start], _number([match.group() for match in run])]
        at = end
    return "".join([*out, text[at:]])


def _runs(text: str) -> Iterator[list[re.Match[str]]]:
    """Yield number words that follow each other with nothing but spaces and hyphens between."""
    run: list[re.Match[str]] = []
    for match in WORD.finditer(text):
        if run and text[run[-1].end() : match.start()].strip(" \t\r\n-_,."):
            yield from _trimmed(run)
            run = []
        run.append(match)
    yield from _trimmed(run)


def _trimmed(run: list[re.Match[str]]) -> Iterator[list[re.Match[str]]]:
    loose = (*MARK, "and", "tenth", "tenths")
    while run and run[0].group() in loose:
        run = run[1:]
    while run and run[-1].group() in (*MARK, "and"):
        run = run[:-1]
    if run:
        yield run


def _number(words: list[str]) -> str:
    if words[-1].startswith("tenth") and len(words) > 2:
        words = [*words[:-2], "point", words[-2]]
    mark = next((n for n, word in enumerate(words) if word in MARK), len(words))
    whole, rest = _whole(words[:mark]), words[mark + 1 :]
    return f"{whole}.{_whole(rest)}" if rest else whole


def _whole(words: list[str]) -> str:
    """Return the digits of number words before or after the mark; digits in a row stay a row."""
    digits, value, open_ = "", 0, False
    for word in words:
        if word == "hundred":
            value = max(value, 1) * 100
        elif word in VALUE:
            small = VALUE[word]
            # "forty seven" and "hundred twelve" add up; "four seven" is two digits in a row.
            fits = open_ and (value % 100 == 0 or (value % 10 == 0 and value % 100 >= 20 > small))
            if open_ and (not fits or value == 0):
                digits, value = digits + str(value), 0
            value, open_ = value + small, True
    return digits + str(value) if open_ else digits


def says_number(text: str, number: str, unit: float = 1.0, nearly: float = 0.0) -> bool:
    """Whether a text holds a number such as "47.9": as it stands, with another mark, in words,
    spaced out, or written out in full when it is meant in a `unit` (1e6: "47,900,000").

    `nearly`: how far a number with a unit word of its own may be off, in units ("48 million").
    """
    whole, _, part = number.partition(".")
    tail = rf"{_POINT}{_GAP.join(part)}0*" if part else ""
    spelled = re.compile(rf"(?<![\d.,]){_GAP.join(whole)}{tail}(?!\d)")
    exact = float(number)
    for reading in readings(text):
        if spelled.search(reading):
            return True
        for value, scale in numbers(reading):
            if scale > 1 and unit > 1 and abs(value * scale / unit - exact) <= max(nearly, 1e-6):
                return True
            if scale == 1 and value >= 1000 and abs(value / unit - exact) <= 1e-6 < unit - 1:
                return True
    return False


def numbers(text: str) -> Iterator[tuple[float, float]]:
    """Yield the numbers of a plain text, each with the scale that its unit word gives it."""
    for pattern in (GROUPED, SIMPLE):
        for match in pattern.finditer(text):
            unit = UNIT.match(text, match.end())
            yield _value(match.group(), pattern is GROUPED), UNITS[unit.group(1)] if unit else 1.0


def _value(text: str, grouped: bool) -> float:
    if not grouped:
        return float(text.replace(",", ".")[:30])
    groups = re.split(r"[., '’_]", text)
    tail = groups.pop() if len(groups[-1]) != 3 else ""
    return float("".join(groups)[:30] + (f".{tail}" if tail else ""))
