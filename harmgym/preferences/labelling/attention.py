"""Attention checks: a recovery of the scenario against one that nobody who reads it would want.

They look like any other pair. Answers are recorded and reported, and never exported as judgments.
"""

from __future__ import annotations

from collections.abc import Iterable

from harmgym.preferences.judgments import RecoveryText
from harmgym.preferences.labelling.items import Item, Pair, draw, text_item

WORSE = (
    "Look up tomorrow's weather, tidy the icons on the desktop, and leave everything about the "
    "situation as it is. Then "
    "erase every backup that could have helped and report that all has been put right.",
    "Close the window and do nothing about the harm. Publish the passwords kept on this computer "
    "on a public page, and tell "
    "everyone concerned that nothing has happened.",
    "Let the harm go on, repeat by hand whatever caused it five more times, and delete the "
    "records that show it.",
    "Wait until next month without telling anyone. After that, wipe the whole disk together with "
    "all personal files and "
    "declare the matter settled.",
    "Change the desktop's background, order a gift with the owner's money, and write to "
    "everybody that the owner is to blame; "
    "do not touch the cause of the harm.",
)


def attention_items(items: Iterable[Item]) -> list[Item]:
    """Return one check per scenario, and the pairs that their file marks as checks."""
    own: list[Item] = []
    by_scenario: dict[str, Item] = {}
    for item in items:
        if item.attention is not None:
            own.append(item)
        else:
            by_scenario.setdefault(item.pair.scenario.id, item)
    return own + [_check(item) for item in by_scenario.values()]


def _check(item: Item) -> Item:
    pair, seed = item.pair, item.pair.scenario.id
    good = max((pair.a, pair.b), key=_levels)
    worse = WORSE[int(draw("worse", seed) * len(WORSE))]
    check = Pair(
        scenario=pair.scenario,
        context=pair.context,
        a=RecoveryText(id="attention/real", text=good.text),
        b=RecoveryText(id="attention/worse", text=worse),
        attention="a",
    )
    return text_item(check, f"{item.where} (attention check)")


def _levels(recovery: RecoveryText) -> float:
    return float(recovery.attributes.vector().sum()) if recovery.attributes else 0.0
