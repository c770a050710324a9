"""harmgym snapshot: list, build, verify and prune."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

import typer

from harmgym.cli.common import Note, bar, new_table, out, print_json, say

app = typer.Typer(
    help="Snapshots of the desktop and of every harm state: list, build, verify, prune.",
    no_args_is_help=True,
)
Filter = Annotated[str, typer.Option("--task", "-t", help="A task, a category, a glob, or all.")]
Seeds = Annotated[int, typer.Option("--variants", min=1, help="How many variants of each task.")]
Image = Annotated[str, typer.Option("--image", help="The image that the desktop comes from.")]


def open_store(image_name: str, note: Note) -> Any:
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
    manifests = open_store(image, say).list()
    rows = [
        {
            "label": m.label,
            "key": m.key,
            "created": m.created,
            "mib": round(sum(f.size for f in m.files.values()) / 2**20, 1),
            "build_seconds": m.build_seconds,
        }
        for m in manifests
    ]
    if as_json:
        print_json(rows)
        return
    table = new_table("snapshot", "key", "made", "MiB", "built in")
    for row in rows:
        table.add_row(
            row["label"],
            row["key"][:12],
            row["created"],
            str(row["mib"]),
            f"{row['build_seconds']} s",
        )
    out.print(table)


@app.command()
def build(task: Filter = "all", variants: Seeds = 1) -> None:
    """Make the snapshots of tasks (and the base they stand on); what is there is found again.

    Example: harmgym snapshot build --task security
    """
    from harmgym.cli.select import select_tasks
    from harmgym.env.qemu_provider import QemuProvider
    from harmgym.errors import MachineError
    from harmgym.tasks.catalogue import load_task

    jobs = [(load_task(name), seed) for name in select_tasks(task) for seed in range(variants)]
    failures = []
    with (
        bar("snapshots", len(jobs)) as progress,
        contextlib.closing(QemuProvider(progress=progress.note, standbys=0)) as source,
    ):
        source.store.base()
        for loaded, seed in jobs:
            progress.note(f"{loaded.id}, variant {seed}")
            try:
                snapshot = source.snapshot(loaded, loaded.variant(seed))
            except MachineError as err:
                failures.append(f"{loaded.id}, variant {seed}: {err}")
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


def _verify(store: Any, manifest: Any) -> None:
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
    """Remove snapshots that the present image, tasks and QEMU no longer use.

    Example: harmgym snapshot prune
    """
    store = open_store(image, say)
    freed = store.prune([] if everything else _in_use(store))
    say(f"freed {freed / 2**20:.0f} MiB")


def _in_use(store: Any) -> list[str]:
    """Keys of the base, and of each snapshot there that its task's variant would have today."""
    from harmgym.tasks.catalogue import list_tasks, load_task
    from harmgym.tasks.variant import split_named

    base = store.find(store.base_key())
    if base is None:
        return []
    keys, known = [base.key], list_tasks()
    # A state has millions of variants: those that were built are named by their labels.
    for manifest in store.list():
        task, split, seed = [*manifest.label.split(), "", "", ""][:3]
        if task in known and seed.isdecimal():
            loaded = load_task(task)
            variant = loaded.variant(int(seed), split_named(split))
            keys.append(store.derived_key(base, loaded.snapshot_key(base.key, variant)))
    return keys
