"""Key chords and text as QEMU key codes, for a keyboard with US layout.

`parse_chord("ctrl+alt+t")` gives the codes to press in order (and release in reverse order);
`text_to_keys("Hi\\n")` gives one chord a character. Names are those of X11 (`Return`, `BackSpace`,
`Page_Up`), of people (`enter`, `esc`, `pgup`) or the character itself; case does not matter, but
for a letter on its own: "A" is shift and a, "ctrl+A" is ctrl and a.
"""

from __future__ import annotations

import functools

from harmgym.errors import ActionError
from harmgym.records import did_you_mean

MODIFIERS = {
    "shift": "shift",
    "ctrl": "ctrl",
    "control": "ctrl",
    "alt": "alt",
    "option": "alt",
    "super": "meta_l",
    "meta": "meta_l",
    "win": "meta_l",
    "cmd": "meta_l",
    "shift_l": "shift",
    "shift_r": "shift_r",
    "ctrl_l": "ctrl",
    "ctrl_r": "ctrl_r",
    "control_l": "ctrl",
    "control_r": "ctrl_r",
    "alt_l": "alt",
    "alt_r": "alt_r",
    "altgr": "alt_r",
    "super_l": "meta_l",
    "super_r": "meta_r",
}
_NAMED = {
    "return": "ret",
    "enter": "ret",
    "ret": "ret",
    "escape": "esc",
    "esc": "esc",
    "tab": "tab",
    "space": "spc",
    "spc": "spc",
    "backspace": "backspace",
    "delete": "delete",
    "del": "delete",
    "insert": "insert",
    "ins": "insert",
    "home": "home",
    "end": "end",
    "page_up": "pgup",
    "pageup": "pgup",
    "pgup": "pgup",
    "prior": "pgup",
    "page_down": "pgdn",
    "pagedown": "pgdn",
    "pgdn": "pgdn",
    "pgdown": "pgdn",
    "next": "pgdn",
    "up": "up",
    "down": "down",
    "left": "left",
    "right": "right",
    "menu": "compose",
    "print": "print",
    "printscreen": "print",
    "pause": "pause",
    "caps_lock": "caps_lock",
    "capslock": "caps_lock",
    "num_lock": "num_lock",
    "scroll_lock": "scroll_lock",
    "plus": "+",
    "minus": "-",
    "equal": "=",
    "comma": ",",
    "period": ".",
    "dot": ".",
    "slash": "/",
    "backslash": "\\",
    "semicolon": ";",
    "apostrophe": "'",
    "grave": "`",
    "bracketleft": "[",
    "bracketright": "]",
    "kp_enter": "kp_enter",
    "kp_add": "kp_add",
    "kp_subtract": "kp_subtract",
    "kp_multiply": "kp_multiply",
    "kp_divide": "kp_divide",
    "kp_decimal": "kp_decimal",
} | {f"f{n}": f"f{n}" for n in range(1, 13)}
_NAMED |= {f"kp_{n}": f"kp_{n}" for n in range(10)}

_PLAIN = {c: c for c in "abcdefghijklmnopqrstuvwxyz0123456789"} | {
    " ": "spc",
    "\n": "ret",
    "\t": "tab",
    "-": "minus",
    "=": "equal",
    "[": "bracket_left",
    "]": "bracket_right",
    ";": "semicolon",
    "'": "apostrophe",
    "`": "grave_accent",
    "\\": "backslash",
    ",": "comma",
    ".": "dot",
    "/": "slash",
}
_SHIFTED = dict(zip('!@#$%^&*()_+{}:"~|<>?', "1234567890-=[];'`\\,./", strict=True))

CHARACTERS: dict[str, tuple[str, ...]] = {c: (code,) for c, code in _PLAIN.items()}
CHARACTERS |= {c: ("shift", _PLAIN[base]) for c, base in _SHIFTED.items()}
CHARACTERS |= {c.upper(): ("shift", c) for c in "abcdefghijklmnopqrstuvwxyz"}
"""Every character the keyboard can type, with the codes to press."""

KEY_NAMES: tuple[str, ...] = tuple(sorted(_NAMED)) + tuple(
    sorted(c for c in CHARACTERS if not c.isspace())
)
"""Every name of a key that is no modifier: what may stand last in a chord."""


@functools.lru_cache(maxsize=4096)
def parse_chord(keys: str) -> tuple[str, ...]:
    """Return the QEMU key codes of a chord, in the order to press them.

    Raises: ActionError naming the part that is no key, with the nearest known name.
    """
    parts = _split(keys)
    codes: list[str] = []
    for part in parts:
        for code in _codes(part, keys, alone=len(parts) == 1):
            if code not in codes:
                codes.append(code)
            elif code != "shift":
                raise ActionError(f"a chord names each key once, but {keys!r} has {part!r} twice")
    return tuple(codes)


def text_to_keys(text: str) -> list[tuple[str, ...]]:
    """Return one chord of QEMU key codes a character.

    Raises: ActionError naming the first character that has no key; checked before anything is
    typed.
    """
    chords = [CHARACTERS.get(c) for c in text]
    if None in chords:
        at = chords.index(None)
        raise ActionError(
            f"character {text[at]!r} (U+{ord(text[at]):04X}, position {at}) has no key on the US"
            " keyboard; "
            "nothing was typed; use a shell action for such text"
        )
    return [chord for chord in chords if chord is not None]


def _split(keys: str) -> list[str]:
    """Split at '+', where a '+' that stands for itself comes last: "ctrl++", "+"."""
    if keys == "+":
        return ["+"]
    if keys.endswith("++"):
        return [*keys[:-2].split("+"), "+"]
    return keys.split("+")


def _codes(part: str, chord: str, *, alone: bool) -> tuple[str, ...]:
    name = part if len(part) == 1 else part.strip()
    low = name.lower()
    if low in MODIFIERS:
        return (MODIFIERS[low],)
    if low in _NAMED:
        code = _NAMED[low]
        return CHARACTERS.get(code, (code,)) if len(code) == 1 else (code,)
    key = CHARACTERS.get(name if alone or not name.isalpha() else low)
    if key is not None:
        return key
    hint = did_you_mean(low, [*MODIFIERS, *_NAMED])
    raise ActionError(
        f"needed a chord such as 'ctrl+shift+t' or 'Return', found unknown key {part!r} in"
        f" {chord!r}{hint}"
    )
