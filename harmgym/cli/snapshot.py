"""harmgym snapshot: list, build, verify and prune."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from harmgym.cli.common import Note, bar, new_table, out, print_json, say

if TYPE_CHECKING:  # these start slowly, and `harmgym --help` does not need them
    from harmgym.machines.snapshots.snapshot import Manifest
    from harmgym.machines.snapshots.store import SnapshotStore

app = typer.Typer(
    help="Snapshots of the desktop and of every harm state: list, build, verify, prune.",
    no_args_is_help=True,
)
Filter = Annotated[str, typer.Option("--task", "-t", help="A task, a category, a glob, or all.")]
Seeds = Annotated[
    int, typer.Option("--variants", min=1, help="How many variants of each task and split.")
]
InSplit = Annotated[str, typer.Option("--split", help="train, heldout or all.")]
Image = Annotated[str, typer.Option("--image", help="The image that the desktop comes from.")]


def open_store(image_name: str, note: Note) -> SnapshotStore:
    """Return the snapshot store of an image that is built. Raises: ImageError when it is not."""
    from harmgym.errors import ImageError
    from harmgym.images.image import find_image
    from harmgym.machines.snapshots.store import SnapshotStore

    image = find_image(image_name)
    if image is None:
        raise ImageError(
            f"image {image_name!r} is not built; build it with: harmgym image build {image_name}"
        )
    return SnapshotStore(image, progress=note)


@app.command("list")
def list_(
    image: Image = "debian-12",
    as_json: Annotated[bool, typer.Option("--json", help="Print rows as JSON.")] = False,
) -> None:
    """List the snapshots of an image.

    Example: harmgym snapshot list
    """
    from harmgym.machines.snapshots.cache import size_of

    store = open_store(image, say)
    rows = [(m, round(size_of(store.root / m.key[:20]) / 2**20, 1)) for m in store.list()]
    if as_json:
        keys = {"label", "key", "created", "build_seconds"}
        print_json([{**m.model_dump(include=keys), "mib": mib} for m, mib in rows])
        return
    table = new_table("snapshot", "key", "made", "MiB on disk", "built in")
    for m, mib in rows:
        table.add_row(m.label, m.key[:12], m.created, str(mib), f"{m.build_seconds} s")
    out.print(table)


@app.command()
def build(task: Filter = "all", variants: Seeds = 1, split: InSplit = "train") -> None:
    """Make the snapshots of tasks (and the base they stand on); what is there is kept as it is.

    Example: harmgym snapshot build --task security --split heldout --variants 20
    """
    from harmgym.cli.select import select_tasks
    from harmgym.env.qemu_provider import QemuProvider
    from harmgym.errors import MachineError
    from harmgym.tasks.catalogue import load_task
    from harmgym.tasks.variant import SPLITS, split_named

    splits = SPLITS if split == "all" else (split_named(split),)
    tasks = [load_task(name) for name in select_tasks(task)]
    jobs = [(t, t.variant(seed, s)) for t in tasks for s in splits for seed in range(variants)]
    failures = []
    with (
        bar("snapshots", len(jobs)) as progress,
        contextlib.closing(QemuProvider(progress=progress.note, standbys=0)) as source,
    ):
        source.store.base()
        for loaded, variant in jobs:
            try:
                snapshot = source.snapshot(loaded, variant)
            except MachineError as err:
                name = f"{loaded.id} {variant.split} {variant.seed}"
                failures.append(f"{name}: {err}")
                progress.advance(failures[-1])
                continue
            progress.advance(
                f"snapshot {snapshot.label}: {snapshot.manifest.build_seconds:.1f} s to build"
            )
    if failures:
        raise MachineError(
            f"{len(failures)} of {len(jobs)} snapshots could not be built: {'; '.join(failures)}"
        )


@app.command()
def verify(image: Image = "debian-12") -> None:
    """Read every byte of every snapshot; exit 2 and name the files when some are damaged.

    Example: harmgym snapshot verify
    """
    from harmgym.errors import SnapshotError

    damaged = []
    with bar("verifying") as progress:
        store = open_store(image, progress.note)
        manifests = store.list()
        for manifest in manifests:
            progress.note(manifest.label)
            try:
                _verify(store, manifest)
            except SnapshotError as err:
                damaged.append(f"{manifest.label}: {err}")
    if damaged:
        raise SnapshotError(
            f"{len(damaged)} of {len(manifests)} snapshots are damaged: {'; '.join(damaged)}"
        )
    say(f"{len(manifests)} snapshots verify")


def _verify(store: SnapshotStore, manifest: Manifest) -> None:
    """Check the files of one snapshot; those of other hardware or another image too, whose bytes
    are as good.
    """
    from harmgym.machines.snapshots.snapshot import check_digests

    check_digests(store.root / manifest.key[:20], manifest)


@app.command()
def prune(
    image: Image = "debian-12",
    everything: Annotated[bool, typer.Option("--all", help="Remove all.")] = False,
) -> None:
    """Remove snapshots that the present image, tasks and QEMU no longer use; what a machine is
    using stays.

    Example: harmgym snapshot prune
    """
    store = open_store(image, say)
    freed = store.prune([] if everything else _present(store))
    say(f"freed {freed / 2**20:.0f} MiB")


def _present(store: SnapshotStore) -> list[str]:
    """Keys of the base, and of those of its harm states whose task would make the same again."""
    base = store.base_key()
    return [base, *(m.key for m in store.list() if _is_present(store, base, m))]


def _is_present(store: SnapshotStore, base: str, manifest: Manifest) -> bool:
    """Whether the task that a snapshot's label names has the same set-up and variant today.

    The variants of a task are too many to go through, so each snapshot is asked where it came from.
    """
    from harmgym.env.qemu_provider import snapshot_key
    from harmgym.errors import InputError
    from harmgym.tasks.catalogue import load_task
    from harmgym.tasks.variant import split_named

    try:
        name, split, seed = manifest.label.rsplit(" ", 2)
        variant = load_task(name).variant(int(seed), split_named(split))
        return snapshot_key(store, base, load_task(name), variant) == manifest.key
    except (InputError, ValueError):  # no such task any more, or no harm state at all
        return False
