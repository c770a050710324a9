"""harmgym image: build, verify and list disk images."""

from __future__ import annotations

from typing import Annotated

import typer

from harmgym.cli.common import bar, new_table, out, print_json, say

app = typer.Typer(help="Disk images of the desktop: build, verify, list.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="A recipe: a folder of vm_images/.")]


@app.command()
def build(name: Name = "debian-12") -> None:
    """Build an image, or find it in the cache (minutes the first time).

    Example: harmgym image build debian-12
    """
    from harmgym.images.build import ensure_image

    with bar(f"image {name}") as progress:
        image = ensure_image(name, progress=progress.note)
    say(f"image {image.name}: {image.folder}")


@app.command()
def verify(name: Name = "debian-12") -> None:
    """Boot an image and check the desktop in it; exit 2 when it does not verify.

    Example: harmgym image verify debian-12
    """
    from harmgym.errors import ImageError
    from harmgym.images.image import find_image
    from harmgym.images.verify import verify
    from harmgym.machines.snapshots.store import SnapshotStore

    image = find_image(name)
    if image is None:
        raise ImageError(f"image {name!r} is not built; build it with: harmgym image build {name}")
    with bar(f"verifying {name}") as progress:
        store = SnapshotStore(image, progress=progress.note)
        found = verify(image, store.cold_boot)
    table = new_table("looked at", "found", whole="looked at")
    for what, value in found.items():
        pairs = value.items() if isinstance(value, dict) else [("", value)]
        for part, state in pairs:
            shown = ", ".join(map(str, state)) or "none" if isinstance(state, list) else str(state)
            table.add_row(f"{what} {part}".strip(), f"{state:.1%}" if what == "idle" else shown)
    out.print(table)
    say(f"image {name} verifies")


@app.command("list")
def list_(
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print rows as JSON.")
    ] = False,
) -> None:
    """List the recipes and whether they are built.

    Example: harmgym image list
    """
    from harmgym.images.image import find_image
    from harmgym.paths import content

    rows = []
    for recipe in sorted(content("vm_images").glob("*/recipe.yaml")):
        image = find_image(recipe.parent.name)
        rows.append(
            {
                "name": recipe.parent.name,
                "key": image.key[:12] if image else None,
                "folder": image.folder if image else None,
            }
        )
    if as_json:
        print_json(rows)
        return
    table = new_table("image", "key", "folder")
    for row in rows:
        table.add_row(str(row["name"]), str(row["key"] or "not built"), str(row["folder"] or ""))
    out.print(table)
