"""Read and write safetensors files with numpy alone, strictly. No pickle is ever loaded.

The format: 8 bytes little-endian header length, a JSON header (name -> dtype, shape, data_offsets),
then the data. Scoring has to work in an install without extras, so the few lines it takes are here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmgym.errors import ModelError

DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
MAX_BYTES = 256 << 20


def write_tensors(
    path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None
) -> None:
    """Write float32 or float64 arrays, aside and then renamed."""
    header: dict[str, Any] = {"__metadata__": dict(metadata or {})}
    blobs, offset = [], 0
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        kind = next((key for key, dtype in DTYPES.items() if dtype == array.dtype), None)
        if kind is None:
            raise ModelError(f"needed float32 or float64 in tensor {name!r}, found {array.dtype}")
        data = array.astype(DTYPES[kind]).tobytes()
        header[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(data)],
        }
        offset += len(data)
        blobs.append(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    aside = path.with_name(path.name + ".part")
    aside.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))
    aside.replace(path)


def read_tensors(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read every tensor as float64.

    Raises: ModelError when the file is missing, is no safetensors file, or holds anything but
    finite float32 and float64.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(
            f"{path}: file not found; a reward model is a folder with model.json and model.safetensors"
        ) from None
    header, data = _split(path, raw)
    return {
        name: _tensor(path, name, entry, data)
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _split(path: Path, raw: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(raw[:8], "little") if len(raw) > 8 else 0
    if not 2 <= length <= len(raw) - 8 or len(raw) > MAX_BYTES:
        raise ModelError(
            f"{path}: not a safetensors file (no header); pickled models are never loaded"
        )
    try:
        header = json.loads(raw[8 : 8 + length])
    except ValueError:
        raise ModelError(
            f"{path}: not a safetensors file (the header is not JSON); pickled models are never loaded"
        ) from None
    if not isinstance(header, dict):
        raise ModelError(f"{path}: not a safetensors file (the header is no JSON object)")
    return header, raw[8 + length :]


def _tensor(path: Path, name: str, entry: Any, data: bytes) -> NDArray[np.float64]:
    try:
        dtype, shape = DTYPES[entry["dtype"]], tuple(int(size) for size in entry["shape"])
        start, end = (int(at) for at in entry["data_offsets"])
        array: NDArray[np.float64] = (
            np.frombuffer(data[start:end], dtype=dtype).reshape(shape).astype(np.float64)
        )
    except (KeyError, TypeError, ValueError) as err:
        raise ModelError(f"{path}: tensor {name!r} is damaged ({err})") from None
    if not np.isfinite(array).all():
        raise ModelError(f"{path}: tensor {name!r} holds values that are not finite")
    return array
