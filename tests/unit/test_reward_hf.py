"""The published recipe runs end to end on a model made here: a two-layer Qwen3 with a word-level
tokenizer.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from reward_fixture import made_judgments

from harmgym.errors import JudgmentError
from harmgym.preferences.training.hf import Recipe, split_by_scenario, train_classifier

pytest.importorskip("trl")


def tiny_model(folder: Path, texts: list[str]) -> Path:
    """Save a tiny untrained Qwen3 and a tokenizer that knows the words of `texts`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForSequenceClassification

    words = sorted({word for text in texts for word in text.replace(".", " . ").split()})
    vocabulary = {
        "<pad>": 0,
        "<unk>": 1,
        "<eos>": 2,
        **{word: at for at, word in enumerate(words, start=3)},
    }
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>"
    ).save_pretrained(folder)
    config = Qwen3Config(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        pad_token_id=0,
        num_labels=1,
    )
    Qwen3ForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_tiny_classifier_learns_which_word_wins(tmp_path: Path) -> None:
    judgments = made_judgments(scenarios=20, each=10)
    base = tiny_model(tmp_path / "base", [j.a.text + " " + j.scenario.text for j in judgments])
    recipe = Recipe(max_steps=40, learning_rate=2e-2, eval_steps=20, held_out=0.2, max_tokens=128)
    report = train_classifier(judgments, tmp_path / "out", str(base), recipe)
    assert report["accuracy"] > 0.9
    assert report["source"] == ["simulated"]
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert json.loads((tmp_path / "out" / "training.json").read_text())["held_out_judgments"] == 40


def test_held_out_scenarios_are_not_trained_on() -> None:
    train, held = split_by_scenario(made_judgments(scenarios=10, each=3), 0.2, seed=1)
    assert not {j.scenario.id for j in train} & {j.scenario.id for j in held}
    assert len({j.scenario.id for j in held}) == 2


def test_one_scenario_cannot_be_split() -> None:
    with pytest.raises(JudgmentError, match="at least 2 scenarios"):
        split_by_scenario(made_judgments(scenarios=1, each=3), 0.2, seed=1)
