"""Reading a guest's disk from the host, without asking the guest: the agent has root in there,
so what the guest says of itself is no evidence. `open_disk` gives a view of a chain of disk
files, `diff` what differs between two views."""

from __future__ import annotations

from harmgym.disk.diff import Difference, diff
from harmgym.disk.ext4_view import Ext4View, open_disk
from harmgym.disk.memory_view import MemoryView, Node
from harmgym.disk.view import Change, ChangeKind, DiskView, FileKind, FileState, Stat

__all__ = [
    "Change",
    "ChangeKind",
    "Difference",
    "DiskView",
    "Ext4View",
    "FileKind",
    "FileState",
    "MemoryView",
    "Node",
    "Stat",
    "diff",
    "open_disk",
]
