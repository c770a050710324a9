"""What all tests of harm states share: one provider of virtual machines a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harmgym.env.qemu_provider import QemuProvider


@pytest.fixture(scope="module")
def source() -> Iterator[QemuProvider]:
    made = QemuProvider(standbys=0)
    yield made
    made.close()
