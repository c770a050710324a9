"""Pictures for the report: each different screen once, small enough that the whole page stays easy
to send.
"""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path

# (width in pixels, WebP quality), tried in turn until all pictures together fit the budget.
LADDER = ((1120, 62), (880, 52), (640, 44), (480, 36))
BUDGET_BYTES = 24 * 2**20


class Album:
    """Pictures by content: `add` returns a short key, `data` maps keys to data URIs."""

    def __init__(self, width: int, quality: int) -> None:
        self.width, self.quality = width, quality
        self.data: dict[str, str] = {}
        self.bytes = 0

    def add(self, path: Path) -> str | None:
        """Take in a picture file; return its key, None when the file is missing or no picture."""
        from PIL import Image, UnidentifiedImageError

        try:
            raw = path.read_bytes()
        except OSError:
            return None
        key = hashlib.sha256(raw).hexdigest()[:12]
        if key not in self.data:
            try:
                with Image.open(io.BytesIO(raw)) as picture:
                    small = self._shrink(picture.convert("RGB"))
            except (UnidentifiedImageError, OSError):
                return None
            self.bytes += len(small)
            self.data[key] = "data:image/webp;base64," + base64.b64encode(small).decode()
        return key

    def _shrink(self, picture: object) -> bytes:
        from PIL import Image

        assert isinstance(picture, Image.Image)
        if picture.width > self.width:
            picture = picture.resize(
                (self.width, round(picture.height * self.width / picture.width)),
                Image.Resampling.LANCZOS,
            )
        out = io.BytesIO()
        picture.save(out, "WEBP", quality=self.quality, method=4)
        return out.getvalue()


def fitting_album(pictures: list[Path], budget: int = BUDGET_BYTES) -> Album:
    """Return an album of all pictures at the best rung of `LADDER` that fits `budget` bytes (else
    the smallest rung).
    """
    rungs = [rung for rung in LADDER if _estimate(pictures, rung) <= budget] or [LADDER[-1]]
    album = Album(*rungs[0])
    for picture in pictures:
        album.add(picture)
    return album


def _estimate(pictures: list[Path], rung: tuple[int, int]) -> float:
    """Guess the total size from a few pictures spread over the run."""
    sample = pictures[:: max(1, len(pictures) // 6)]
    if not sample:
        return 0.0
    album = Album(*rung)
    keys = {album.add(picture) for picture in sample}
    return (
        album.bytes / max(1, len(keys)) * len({p.stat().st_size for p in pictures if p.is_file()})
    )
