"""Preference models on disk: a folder with `model.json` (what it is, and what it was trained on),
`model.safetensors` (the numbers), and `card.md`.

The numbers are read by `safetensors`: nothing in such a file can run, and no pickle is ever loaded.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from harmgym.errors import ModelError
from harmgym.files import write_atomic
from harmgym.records import parse_record, read_json
from harmgym.reward import lexicon
from harmgym.reward.context import CONTEXT_FEATURES
from harmgym.reward.model import (
    FORMAT,
    ModelInfo,
    PreferenceModel,
    assemble,
    checksum,
    numbers_of,
)
from harmgym.tasks.rubric import ATTRIBUTES

Array = NDArray[np.float64]
DEFAULT = Path(__file__).resolve().parent / "default_model"
MAX_BYTES = 256 << 20
WHAT = "a reward model is a folder with model.json and model.safetensors"


def save(model: PreferenceModel, folder: Path) -> None:
    """Write `model.safetensors` and `model.json` into a folder (made where missing)."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "model.safetensors", numbers_of(model))
    text = json.dumps(model.info.model_dump(mode="json"), indent=1, sort_keys=True)
    write_atomic(folder / "model.json", text + "\n")


def load(folder: Path | None = None) -> PreferenceModel:
    """Load a model folder (default: the model that ships with the package).

    Raises: ModelError when it is missing, damaged, of another format version, or not safetensors.
    """
    chosen = folder or DEFAULT
    info = _load_info(chosen / "model.json")
    numbers = read_tensors(chosen / "model.safetensors")
    if (found := checksum(numbers)) != info.tensors_sha256:
        raise ModelError(
            f"{chosen}: model.safetensors does not belong to model.json "
            f"(checksum {found[:12]} is not expected)"
        )
    return assemble(numbers, info)


@functools.cache
def default_model() -> PreferenceModel:
    """Return the model that ships with the package, loaded once a process."""
    return load()


def write_tensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write arrays as float32."""
    # safetensors writes the memory as it lies there: an array that is not contiguous would come
    # back with its values in another order.
    kept = {name: np.ascontiguousarray(one, dtype=np.float32) for name, one in tensors.items()}
    data = safetensors.numpy.save(kept, {"format": f"harmgym-preference-{FORMAT}"})
    write_atomic(path, data)


def read_tensors(path: Path) -> dict[str, Array]:
    """Read every tensor as float64.

    Raises: ModelError when the file is missing, is no safetensors file, or holds anything but
    finite float32 and float64.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path}: needed at most {MAX_BYTES >> 20} MiB of numbers, found more")
        tensors = safetensors.numpy.load(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{path}: file not found; {WHAT}") from None
    # KeyError, TypeError: a number format that numpy does not have (bfloat16, float8).
    except (SafetensorError, KeyError, TypeError, ValueError) as err:
        raise ModelError(
            f"{path}: damaged, or not a safetensors file ({err}); pickled models are never loaded"
        ) from None
    return {name: _checked(path, name, array) for name, array in tensors.items()}


def _checked(path: Path, name: str, array: NDArray[np.generic]) -> Array:
    if array.dtype not in (np.float32, np.float64):
        raise ModelError(
            f"{path}: needed float32 or float64 in tensor {name!r}, found {array.dtype}"
        )
    numbers: Array = array.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ModelError(f"{path}: tensor {name!r} holds values that are not finite")
    return numbers


def _load_info(path: Path) -> ModelInfo:
    data = read_json(path, ModelError, WHAT)
    if data.get("format") != FORMAT:
        raise ModelError(
            f"{path}: needed a model of format {FORMAT}, found format {data.get('format')!r:.40}; "
            "train it again"
        )
    info = parse_record(data, ModelInfo, str(path), ModelError)
    if info.attributes != ATTRIBUTES or info.context not in CONTEXT_FEATURES:
        raise ModelError(
            f"{path}: the model's attributes or context {info.context!r} are not those of this "
            "version; train it again"
        )
    if info.lexicon != lexicon.DIGEST:
        raise ModelError(
            f"{path}: the model was trained with another lexicon ({info.lexicon[:12]}); "
            "train it again"
        )
    return info
