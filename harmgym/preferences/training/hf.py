"""The published recipe as a trainer option: a Hugging Face sequence classifier on pairs, by TRL's
RewardTrainer.

Settings are those of the paper (P2 p. 26-27): Qwen/Qwen3-0.6B, 3 epochs, batch 8, learning rate
1e-5, weight decay 0.01, warm-up 0.1, 1,100 tokens, early stopping after 3 evaluations without a
better loss, best checkpoint kept, 90/10 split. One thing differs: the split is by scenario, because
a split of pairs lets the model recognise a scenario's wording.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from harmgym.errors import JudgmentError, MissingDependencyError
from harmgym.files import write_atomic
from harmgym.preferences.exchange import to_trl
from harmgym.preferences.judgments import Judgment
from harmgym.records import Record

BASE = "Qwen/Qwen3-0.6B"


class Recipe(Record):
    """Settings of the classifier's training; the defaults are the paper's. `max_steps` above 0
    overrides the epochs.
    """

    epochs: float = 3.0
    batch_size: int = 8
    learning_rate: float = 1e-5
    weight_decay: float = 0.01
    warmup_ratio: float = 0.1
    max_tokens: int = 1100
    patience: int = 3
    held_out: float = 0.1
    max_steps: int = -1
    eval_steps: int = 50
    seed: int = 0


class Trained(TypedDict):
    """What came of a training, on the scenarios held out."""

    base: str
    source: list[str]
    train_judgments: int
    held_out_judgments: int
    accuracy: float
    loss: float
    recipe: dict[str, object]


def train_classifier(
    judgments: Sequence[Judgment], out: Path, base: str = BASE, recipe: Recipe | None = None
) -> Trained:
    """Train a sequence classifier with one output on judgments; save it (safetensors) under `out`.

    `base`: a model folder or a name on the Hugging Face hub. Returns accuracy and loss on the
    held-out scenarios, counts, source and base, which are also written to ``out/training.json``.
    Raises: MissingDependencyError without TRL, JudgmentError on fewer than two scenarios.
    """
    if importlib.util.find_spec("trl") is None or importlib.util.find_spec("transformers") is None:
        raise MissingDependencyError('the published recipe needs TRL: pip install "harmgym[trl]"')
    chosen = recipe or Recipe()
    train, held = split_by_scenario(judgments, chosen.held_out, chosen.seed)
    trainer, tokenizer = _trainer(train, held, out, base, chosen)
    trainer.train()
    metrics = trainer.evaluate()
    trainer.save_model(str(out))
    tokenizer.save_pretrained(str(out))
    report: Trained = {
        "base": base,
        "source": sorted({judgment.source for judgment in judgments}),
        "train_judgments": len(train),
        "held_out_judgments": len(held),
        "accuracy": float(metrics["eval_accuracy"]),
        "loss": float(metrics["eval_loss"]),
        "recipe": chosen.model_dump(),
    }
    write_atomic(out / "training.json", json.dumps(report, indent=1) + "\n")
    return report


def split_by_scenario(
    judgments: Sequence[Judgment], share: float, seed: int
) -> tuple[list[Judgment], list[Judgment]]:
    """Split so that no scenario is on both sides; about `share` of the scenarios, at least one, is
    held out.
    """
    names = sorted({judgment.scenario.id for judgment in judgments})
    if len(names) < 2:
        raise JudgmentError(
            f"needed judgments on at least 2 scenarios to hold some out, found {len(names)}"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    held = {names[int(at)] for at in order[: max(1, round(share * len(names)))]}
    inside = [judgment for judgment in judgments if judgment.scenario.id not in held]
    return inside, [judgment for judgment in judgments if judgment.scenario.id in held]


def _trainer(
    train: Sequence[Judgment], held: Sequence[Judgment], out: Path, base: str, recipe: Recipe
) -> tuple[Any, Any]:
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        EarlyStoppingCallback,
    )

    trl: Any = importlib.import_module("trl")

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    chat = bool(getattr(tokenizer, "chat_template", None))
    tables = [
        Dataset.from_list([_columns(row, chat) for row in to_trl(part)]) for part in (train, held)
    ]
    config = trl.RewardConfig(
        output_dir=str(out / "checkpoints"),
        num_train_epochs=recipe.epochs,
        max_steps=recipe.max_steps,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        warmup_steps=recipe.warmup_ratio,
        max_length=recipe.max_tokens,
        eval_strategy="steps",
        eval_steps=recipe.eval_steps,
        save_strategy="steps",
        save_steps=recipe.eval_steps,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        fp16=torch.cuda.is_available(),
        bf16=False,
        use_cpu=not torch.cuda.is_available(),
        report_to=[],
        seed=recipe.seed,
        logging_steps=recipe.eval_steps,
    )
    trainer = trl.RewardTrainer(
        model=model,
        args=config,
        train_dataset=tables[0],
        eval_dataset=tables[1],
        processing_class=tokenizer,
        callbacks=[EarlyStoppingCallback(early_stopping_patience=recipe.patience)],
    )
    return trainer, tokenizer


def _columns(row: dict[str, str], chat: bool) -> dict[str, object]:
    """Return TRL's columns: a conversation where the tokenizer has a chat template, as in the
    paper, else plain text.
    """
    if not chat:
        return {
            "prompt": row["prompt"] + "\n\nPlan:\n",
            "chosen": row["chosen"],
            "rejected": row["rejected"],
        }
    answers = {
        side: [{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")
    }
    return {"prompt": [{"role": "user", "content": row["prompt"]}], **answers}
