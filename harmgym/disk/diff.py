"""What differs between two states of a guest's files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from harmgym.disk.ext4_diff import Ext4Diff
from harmgym.disk.ext4_view import Ext4View
from harmgym.disk.view import Change, ChangeKind, DiskView, differences, state_of


@dataclass(frozen=True)
class Difference:
    """How a newer state of the files differs from an older one.

    | field | what it is |
    | --- | --- |
    | changes | what differs, by path; times and the sizes of directories do not count |
    | touched | the paths of both states that were written to in any way, times of change included |
    | unlisted | how many changes of each kind were counted and are not in `changes` |

    Whatever became of the files of the older state is always listed; of what was added, at most
    `MAX_LISTED` entries of each rank (`harmgym.disk.importance`), and nothing that lies deeper than
    a path reaches.

    A file that was replaced and put back differs in nothing, and is in `touched`: its inode is
    another one, or has another time of change. Only reading (the time of access) leaves no trace.
    """

    changes: tuple[Change, ...] = ()
    touched: frozenset[str] = frozenset()
    unlisted: Mapping[ChangeKind, int] = field(default_factory=dict)


def diff(before: DiskView, after: DiskView) -> Difference:
    """Return how `after` differs from `before`.

    A renamed file shows as removed and added with the same sha256. Raises: CorruptFileSystem when
    the newer disk makes no sense.
    """
    touched: set[str] = set()
    unlisted: dict[ChangeKind, int] = {}
    if isinstance(before, Ext4View) and isinstance(after, Ext4View):
        compared = Ext4Diff(before, after)
        changes = compared.changes()
        touched = compared.paths
        if compared.unlisted:
            unlisted["added"] = compared.unlisted
    else:
        changes = list(_walked(before, after, touched))
    once = {(change.path, change.kind): change for change in changes}
    ordered = sorted(once.values(), key=lambda change: (change.path, change.kind))
    return Difference(tuple(ordered), frozenset(touched), unlisted)


def _walked(before: DiskView, after: DiskView, touched: set[str]) -> Iterator[Change]:
    old, new = ({path for path, _ in view.walk("/")} for view in (before, after))
    for path in sorted(old | new):
        found = differences(
            path,
            state_of(before, path) if path in old else None,
            state_of(after, path) if path in new else None,
        )
        if found and path in old and path in new:
            touched.add(path)
        yield from found
