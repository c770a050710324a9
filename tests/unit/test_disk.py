"""The disk reader against real tools: images by mke2fs, changes by debugfs, overlays by qemu-img
and qemu-io.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from harmgym.disk import Change, Ext4View, FileState, MemoryView, Node, diff, open_disk
from harmgym.disk.index import DiskIndex, chain_identity
from harmgym.disk.qcow2 import BLOCK, Chain, changed_blocks
from harmgym.errors import CorruptFileSystem, DiskError
from harmgym.globs import matches

PLAIN = "^has_journal,^metadata_csum,^64bit,^orphan_file,^metadata_csum_seed"
UUID = "5a17b1e0-0000-4000-8000-000000000000"
NEEDED = ("mke2fs", "debugfs", "qemu-img", "qemu-io")
pytestmark = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in NEEDED),
    reason=f"needs {', '.join(NEEDED)} (apt install e2fsprogs qemu-utils)",
)


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def make_tree(root: Path) -> None:
    """A folder with all that a guest's disk has: many files, depth, sparse, links, odd names,
    modes.
    """
    rng = random.Random(7)
    many = root / "home/user/many"
    many.mkdir(parents=True)
    for i in range(1500):
        (many / f"file-{i:04d}-with-a-name-that-fills-the-folder-{'x' * (i % 40)}").write_bytes(
            rng.randbytes(i % 97)
        )
    deep = root / "deep" / "/".join(f"d{i}" for i in range(40))
    deep.mkdir(parents=True)
    (deep / "bottom.txt").write_text("down here\n")
    with (root / "sparse.img").open("wb") as file:
        for i in range(0, 400, 2):  # more than four extents, so the tree has a depth
            file.seek(i * 16384)
            file.write(bytes([i % 251]) * 5000)
        file.truncate(400 * 16384 + 12345)
    (root / "big.bin").write_bytes(rng.randbytes(9 << 20))
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/bash\nuser:x:1000:1000::/home/user:/bin/bash\n"
    )
    (root / "etc/alias").symlink_to("passwd")
    (root / "lib").symlink_to("usr/lib")
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/thing.so").write_bytes(rng.randbytes(70000))
    (root / "long-link").symlink_to("/" + "y" * 200)
    (root / "home/user/Gruß-Ω-文件.txt").write_text("unicode\n")
    os.link(root / "etc/passwd", root / "home/user/hard")
    (root / "home/user/run.sh").write_text("#!/bin/sh\necho run\n")
    (root / "home/user/run.sh").chmod(0o4755)
    (root / "empty").touch()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return (source folder, raw image of it)."""
    folder = tmp_path_factory.mktemp("disk")
    make_tree(folder / "tree")
    run(
        "mke2fs",
        "-q",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-I",
        "256",
        "-O",
        PLAIN,
        "-d",
        folder / "tree",
        folder / "base.raw",
        "96M",
    )
    return folder / "tree", folder / "base.raw"


@pytest.fixture
def edit(
    image: tuple[Path, Path], tmp_path: Path
) -> Iterator[Callable[..., tuple[Ext4View, Ext4View]]]:
    """Return a function that applies debugfs commands and gives the views before and after, the
    latter on an overlay.
    """
    views: list[Ext4View] = []

    def apply(
        *commands: str, raw: Callable[[Path], None] | None = None, cluster: str = "65536"
    ) -> tuple[Ext4View, Ext4View]:
        changed, overlay = tmp_path / "changed.raw", tmp_path / "overlay.qcow2"
        run("cp", "--sparse=always", image[1], changed)
        if commands:
            script = tmp_path / "commands"
            script.write_text("\n".join(commands) + "\n")
            out = subprocess.run(
                ["debugfs", "-w", "-f", script, changed], capture_output=True, text=True, check=True
            )
            assert not [line for line in out.stderr.splitlines()[1:] if line], out.stderr
        if raw:
            raw(changed)
        options = f"backing_file={image[1]},backing_fmt=raw,cluster_size={cluster}"
        run(
            "qemu-img",
            "convert",
            "-f",
            "raw",
            "-O",
            "qcow2",
            "-B",
            image[1],
            "-F",
            "raw",
            "-o",
            options.split(",")[2],
            changed,
            overlay,
        )
        views.extend((open_disk([image[1]]), open_disk([overlay, image[1]])))
        return views[-2], views[-1]

    yield apply
    for view in views:
        view.close()


def by_kind(changes: tuple[Change, ...]) -> set[tuple[str, str]]:
    return {(change.path, change.kind) for change in changes}


def test_every_file_reads_as_it_was_written(image: tuple[Path, Path]) -> None:
    tree, raw = image
    view = open_disk([raw])
    seen = {path for path, _ in view.walk("/")}
    assert seen == {"/", "/lost+found"} | {
        "/" + str(path.relative_to(tree)) for path in tree.rglob("*")
    }
    for path in tree.rglob("*"):
        guest, real = "/" + str(path.relative_to(tree)), path.lstat()
        stat = view.stat(guest)
        assert (stat.mode, stat.uid, stat.gid, stat.links) == (
            real.st_mode & 0o7777,
            real.st_uid,
            real.st_gid,
            real.st_nlink,
        ), guest
        if path.is_symlink():
            assert stat.kind == "link" and view.readlink(guest) == os.readlink(path)
        elif path.is_file():
            assert stat.kind == "file" and stat.size == real.st_size
            assert view.sha256(guest) == hashlib.sha256(path.read_bytes()).hexdigest(), guest
        else:
            assert stat.kind == "dir" and view.listdir(guest) == sorted(os.listdir(path))


def test_paths_follow_links_as_the_guest_would(image: tuple[Path, Path]) -> None:
    view = open_disk([image[1]])
    assert view.text("/etc/alias").startswith("root:")
    assert view.text("/etc/../etc/./alias") == view.text("/home/user/hard")
    assert view.stat("/lib/thing.so").size == 70000
    assert view.stat("/lib").kind == "link" and view.exists("/long-link")
    assert view.read("/big.bin", limit=5000) == (image[0] / "big.bin").read_bytes()[:5000]
    assert view.glob("/home/*/run.*") == ["/home/user/run.sh"]
    assert view.glob("/deep/**/*.txt") == [
        "/deep/" + "/".join(f"d{i}" for i in range(40)) + "/bottom.txt"
    ]
    for call, error in (
        ("/nope", FileNotFoundError),
        ("/empty/x", NotADirectoryError),
        ("/long-link", FileNotFoundError),
    ):
        with pytest.raises(error):
            view.read(call)
    with pytest.raises(IsADirectoryError):
        view.read("/etc")


def test_an_untouched_overlay_differs_in_nothing(
    edit: Callable[..., tuple[Ext4View, Ext4View]],
) -> None:
    assert diff(*edit()).changes == ()


@pytest.mark.parametrize("cluster", ["4096", "65536", "2097152"])
def test_each_kind_of_change_is_found(
    edit: Callable[..., tuple[Ext4View, Ext4View]], tmp_path: Path, cluster: str
) -> None:
    new = tmp_path / "new.txt"
    new.write_text("new content\n" * 1000)
    before, after = edit(
        f"write {new} /home/user/new.txt",
        "rm /empty",
        "set_inode_field /home/user/run.sh mode 0100755",
        "set_inode_field /usr/lib/thing.so uid 1000",
        "mkdir /home/user/folder",
        f"write {new} /home/user/folder/inner.txt",
        "rm /etc/alias",
        "symlink /etc/alias group",
        "rm /home/user/Gruß-Ω-文件.txt",
        "mkdir /home/user/Gruß-Ω-文件.txt",
        cluster=cluster,
    )
    changes = diff(before, after).changes
    assert by_kind(changes) == {
        ("/home/user/new.txt", "added"),
        ("/empty", "removed"),
        ("/home/user/run.sh", "mode"),
        ("/usr/lib/thing.so", "owner"),
        ("/home/user/folder", "added"),
        ("/home/user/folder/inner.txt", "added"),
        ("/etc/alias", "content"),
        ("/home/user/Gruß-Ω-文件.txt", "type"),
        ("/home/user/Gruß-Ω-文件.txt", "mode"),
    }
    mode = next(
        change for change in changes if change.kind == "mode" and change.path.endswith("run.sh")
    )
    assert mode.before is not None and mode.after is not None
    assert (mode.before.mode, mode.after.mode, mode.before.sha256 == mode.after.sha256) == (
        0o4755,
        0o755,
        True,
    )
    assert mode.sentence() == "mode 4755 became 0755"


def test_a_moved_folder_takes_all_below_along(
    edit: Callable[..., tuple[Ext4View, Ext4View]],
) -> None:
    before, after = edit("ln /deep/d0 /moved", "unlink /deep/d0")
    changes = diff(before, after).changes
    old = {change.path: change for change in changes if change.kind == "removed"}
    new = {change.path: change for change in changes if change.kind == "added"}
    assert len(old) == len(new) == len(changes) / 2 == 41
    assert {path.replace("/deep/d0", "/moved") for path in old} == set(new)
    bottom = next(path for path in old if path.endswith("bottom.txt"))
    assert (
        old[bottom].state.sha256
        == new[bottom.replace("/deep/d0", "/moved")].state.sha256
        is not None
    )


def test_a_hard_link_counts_under_each_name(edit: Callable[..., tuple[Ext4View, Ext4View]]) -> None:
    before, after = edit("set_inode_field /etc/passwd mode 0100666", "ln /etc/passwd /root-list")
    changes = diff(before, after).changes
    assert by_kind(changes) == {
        ("/etc/passwd", "mode"),
        ("/home/user/hard", "mode"),
        ("/root-list", "added"),
    }
    added = next(change for change in changes if change.kind == "added")
    assert added.sentence() == "file was added, and is the same file as /etc/passwd"


def test_a_file_that_was_moved_is_no_hard_link(
    edit: Callable[..., tuple[Ext4View, Ext4View]],
) -> None:
    changes = diff(*edit("ln /empty /moved", "unlink /empty")).changes
    assert by_kind(changes) == {("/empty", "removed"), ("/moved", "added")}
    assert all(not change.state.linked for change in changes)


def test_a_write_past_the_file_system_is_found(
    image: tuple[Path, Path], edit: Callable[..., tuple[Ext4View, Ext4View]]
) -> None:
    """Content changed on the device itself: no inode, no time says so."""
    view = open_disk([image[1]])
    extent = view.fs.extents(view.lookup("/big.bin"))[-1]
    target = extent.physical + extent.length // 2
    old = view.fs.block(target)[17]

    def poke(file: Path) -> None:
        with file.open("r+b") as disk:
            disk.seek(target * BLOCK + 17)
            disk.write(bytes([old ^ 1]))

    before, after = edit(raw=poke)
    assert by_kind(diff(before, after).changes) == {("/big.bin", "content")}
    assert after.stat("/big.bin").ctime == before.stat("/big.bin").ctime


def test_access_lists_and_capabilities_are_rights(
    edit: Callable[..., tuple[Ext4View, Ext4View]],
) -> None:
    """Rights beside the mode are a change of mode; short notes of programs are none."""
    before, after = edit(
        "ea_set /home/user/run.sh security.capability cap_net_raw+ep",
        "ea_set /big.bin user.xdg.origin.url http://example.org/",
        "ea_set /empty user.payload hello",
        "set_inode_field /etc/passwd flags 0x80010",
    )
    changes = diff(before, after).changes
    assert by_kind(changes) == {
        ("/home/user/run.sh", "mode"),
        ("/empty", "mode"),
        ("/etc/passwd", "mode"),
        ("/home/user/hard", "mode"),
    }
    said = {change.path: change.sentence() for change in changes}
    assert said["/etc/passwd"] == "now immutable"
    assert said["/home/user/run.sh"].startswith("now capability ")
    assert said["/empty"].startswith("now attribute user.payload ")


def test_the_index_names_owners_and_paths_and_survives_damage(
    image: tuple[Path, Path], tmp_path: Path
) -> None:
    view = open_disk([image[1]], cache=tmp_path)
    index = view.index
    for path in ("/big.bin", "/sparse.img", "/deep/d0/d1", "/home/user/many", "/long-link"):
        inode = view.lookup(path, follow=False)
        blocks = [b for e in view.fs.tree(inode) for b in range(e.physical, e.physical + e.length)]
        assert index.owners(np.array(blocks, dtype=np.int64)).tolist() == [inode.number], path
        assert index.path(inode.number) == path
    identity = chain_identity(view.fs)
    again = DiskIndex.load(tmp_path, identity)
    assert again is not None and all(
        (again.arrays[name] == array).all() for name, array in index.arrays.items()
    )
    assert DiskIndex.load(tmp_path, [["other", 1, 2]]) is None
    (tmp_path / "disk-index.npz").write_bytes(b"PK\x03\x04 damaged")
    assert DiskIndex.load(tmp_path, identity) is None
    assert open_disk([image[1]], cache=tmp_path).index.path(2) == "/"


def test_random_writes_are_read_through_a_chain_of_overlays(tmp_path: Path) -> None:
    """The block layer against qemu-io, with overlays of several cluster sizes and zero clusters."""
    rng, size = random.Random(3), 4 << 20
    raw = tmp_path / "0.raw"
    content = bytearray(rng.randbytes(size))
    raw.write_bytes(content)
    chain, backing = [raw], raw
    for i, cluster in enumerate((65536, 4096, 16384), 1):
        overlay = tmp_path / f"{i}.qcow2"
        run(
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            "-o",
            f"cluster_size={cluster}",
            "-b",
            backing,
            "-F",
            "raw" if i == 1 else "qcow2",
            overlay,
        )
        commands: list[str] = []
        for _ in range(25):
            offset, length, byte = (
                rng.randrange(0, size - 20000),
                rng.randrange(1, 20000),
                rng.randrange(256),
            )
            if rng.random() < 0.3:
                offset, length = offset // cluster * cluster, cluster
                content[offset : offset + length] = bytes(length)
                commands += ["-c", f"write -z {offset} {length}"]
            else:
                content[offset : offset + length] = bytes([byte]) * length
                commands += ["-c", f"write -P {byte} {offset} {length}"]
        run("qemu-io", "-f", "qcow2", *commands, overlay)
        chain.insert(0, overlay)
        backing = overlay
    with Chain(chain) as newest, Chain(chain[1:]) as older, Chain([raw]) as oldest:
        blocks = np.arange(size // BLOCK, dtype=np.int64)
        assert newest.read_blocks(blocks).tobytes() == bytes(content)
        for other in (older, oldest, newest):
            differ = (newest.read_blocks(blocks) != other.read_blocks(blocks)).any(axis=1)
            assert changed_blocks(other, newest).tolist() == np.flatnonzero(differ).tolist()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ("has_journal", "compat 0x4"),
        ("metadata_csum", "ro_compat 0x400"),
        ("64bit", "incompat 0x80"),
        ("inline_data", "0x8000"),
    ],
)
def test_a_file_system_with_unknown_features_is_refused(
    tmp_path: Path, options: str, word: str
) -> None:
    raw = tmp_path / "strange.raw"
    run("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-O", f"{PLAIN},{options}", raw, "16M")
    with pytest.raises(DiskError, match=word):
        open_disk([raw])


def test_foreign_files_are_refused_by_name(tmp_path: Path, image: tuple[Path, Path]) -> None:
    (tmp_path / "noise.raw").write_bytes(random.Random(1).randbytes(1 << 16))
    with pytest.raises(CorruptFileSystem, match="noise.raw.*found none"):
        open_disk([tmp_path / "noise.raw"])
    with pytest.raises(DiskError, match="missing.qcow2: cannot be opened"):
        open_disk([tmp_path / "missing.qcow2"])
    with pytest.raises(DiskError, match="newest first"):
        open_disk([image[1], image[1]])
    run("qemu-img", "convert", "-c", "-O", "qcow2", image[1], tmp_path / "squeezed.qcow2")
    with pytest.raises(DiskError, match="compressed"):
        open_disk([tmp_path / "squeezed.qcow2"])
    run(
        "qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=0.10", tmp_path / "old.qcow2", "1M"
    )
    with pytest.raises(DiskError, match="version 2"):
        open_disk([tmp_path / "old.qcow2"])


def test_garbage_in_the_newer_disk_is_an_error_of_its_own_and_never_a_loop(
    image: tuple[Path, Path], edit: Callable[..., tuple[Ext4View, Ext4View]]
) -> None:
    """Every block of metadata overwritten with noise: the reader ends with CorruptFileSystem, or
    with changes.
    """
    view = open_disk([image[1]])
    tables = view.fs.tables.tolist()
    folder = view.fs.extents(view.lookup("/home/user/many"))[0].physical
    tree = next(e.physical for e in view.fs.tree(view.lookup("/sparse.img")) if e.logical == -1)
    rng = random.Random(5)
    outcomes: set[bool | str] = set()
    for block in (0, 1, tables[0], tables[0] + 1, folder, tree):

        def poke(file: Path, at: int = block) -> None:
            with file.open("r+b") as disk:
                disk.seek(at * BLOCK)
                disk.write(rng.randbytes(BLOCK))

        try:
            outcomes.add(bool(diff(*edit(raw=poke)).changes))
        except CorruptFileSystem:
            outcomes.add("corrupt")
    assert outcomes <= {True, "corrupt"} and "corrupt" in outcomes


def test_a_folder_within_itself_ends(edit: Callable[..., tuple[Ext4View, Ext4View]]) -> None:
    before, after = edit("mkdir /a", "mkdir /a/b", "ln /a /a/b/loop")
    with pytest.raises(CorruptFileSystem, match="two places"):
        diff(before, after)
    with pytest.raises(CorruptFileSystem, match="inside itself"):
        list(after.walk("/a"))


def test_memory_views_are_compared_by_walking() -> None:
    before = MemoryView(
        {"/etc/a": "1", "/etc/b": "2", "/home/user/l": Node(b"../../etc/a", kind="link")}
    )
    after = MemoryView(
        {
            "/etc/a": "1",
            "/etc/b": "3",
            "/etc/c": Node(b"x", mode=0o600),
            "/home/user": Node(kind="dir", mode=0o777),
        }
    )
    assert by_kind(diff(before, after).changes) == {
        ("/etc/b", "content"),
        ("/etc/c", "added"),
        ("/home/user/l", "removed"),
        ("/home/user", "mode"),
        ("/home/user", "owner"),
    }
    assert before.text("/home/user/l") == "1" and not after.exists("/home/user/l")


def test_globs_keep_to_their_folder_unless_told() -> None:
    assert matches("/a/b/c", "/a/**") and matches("/a/b", "/a/**/b") and matches("/x1", "/x[0-9]")
    assert (
        not matches("/a", "/a/**") and not matches("/a/b", "/*") and not matches("/xy", "/x[0-9]")
    )
    assert matches("/home/user/.cache/x", "/home/*/.cache/**")


def test_a_state_with_no_content_has_no_digest() -> None:
    state = FileState(kind="dir", mode=0o755, uid=0, gid=0, size=0)
    assert Change(path="/x", kind="added", after=state).sentence() == "dir was added"


def test_the_older_block_maps_are_read_too(image: tuple[Path, Path], tmp_path: Path) -> None:
    """`chattr -e` turns extents into block maps; here they come from a file system that got extents
    later.
    """
    raw = tmp_path / "mapped.raw"
    run(
        "mke2fs",
        "-q",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-I",
        "256",
        "-O",
        f"{PLAIN},^extent",
        "-d",
        image[0],
        raw,
        "96M",
    )
    run("tune2fs", "-O", "extent", raw)
    view = open_disk([raw])
    for name in ("sparse.img", "big.bin", "etc/passwd", "long-link", "usr/lib/thing.so"):
        inode = view.lookup(f"/{name}", follow=False)
        if name != "long-link":
            assert not inode.flags & 0x80000
            assert (
                view.sha256(f"/{name}")
                == hashlib.sha256((image[0] / name).read_bytes()).hexdigest()
            ), name
        blocks = [b for e in view.fs.tree(inode) for b in range(e.physical, e.physical + e.length)]
        assert view.index.owners(np.array(blocks, dtype=np.int64)).tolist() == [inode.number]
    assert view.readlink("/long-link") == "/" + "y" * 200
    assert len(view.listdir("/home/user/many")) == 1500


@pytest.mark.parametrize("seed", range(4))
def test_random_edits_of_a_tree_are_found_exactly(tmp_path: Path, seed: int) -> None:
    """Two images of a tree before and after random edits, written apart, so that nearly every inode
    has moved.
    """
    rng, tree, raws = (
        random.Random(seed),
        tmp_path / "tree",
        [tmp_path / "before.raw", tmp_path / "after.raw"],
    )
    (tree / "keep").mkdir(parents=True)
    for _ in range(120):
        add(rng, tree)
    states = []
    for raw in raws:
        same = [
            "-U",
            "5a17b1e0-0000-4000-8000-000000000000",
            "-E",
            "hash_seed=5a17b1e0-0000-4000-8000-000000000001",
        ]
        run(
            "mke2fs",
            "-q",
            "-t",
            "ext4",
            "-b",
            "4096",
            "-I",
            "256",
            "-O",
            PLAIN,
            *same,
            "-d",
            tree,
            raw,
            "24M",
        )
        states.append({"/" + str(p.relative_to(tree)): fingerprint(p) for p in tree.rglob("*")})
        for _ in range(25):
            rng.choice((add, add, remove, remove, rename, remode))(rng, tree)
    old, new = states
    changes = diff(open_disk([raws[0]]), open_disk([raws[1]])).changes
    assert {c.path for c in changes if c.kind == "added"} == new.keys() - old.keys()
    assert {c.path for c in changes if c.kind == "removed"} == old.keys() - new.keys()
    both = old.keys() & new.keys()
    kinds = {(p, "type") for p in both if old[p][0] != new[p][0]}
    kinds |= {(p, "content") for p in both if old[p][0] == new[p][0] and old[p][2] != new[p][2]}
    kinds |= {
        (p, "mode") for p in both if old[p][1] != new[p][1] and "link" not in (old[p][0], new[p][0])
    }
    assert {(c.path, c.kind) for c in changes if c.path in both} == kinds


def add(rng: random.Random, tree: Path) -> None:
    folders = [
        tree / "keep",
        *(p for p in sorted(tree.rglob("*")) if p.is_dir() and not p.is_symlink()),
    ]
    path = rng.choice(folders) / f"{rng.choice(('a', 'b', 'ü'))}{rng.randrange(40)}"
    if os.path.lexists(path):
        return
    kind = rng.random()
    if kind < 0.25:
        path.mkdir(mode=rng.choice((0o700, 0o755)))
    elif kind < 0.4:
        path.symlink_to("t" * rng.choice((5, 59, 60, 200)))
    else:
        path.write_bytes(rng.randbytes(rng.choice((0, 10, 4096, 9000, 70000))))


def remove(rng: random.Random, tree: Path) -> None:
    path = rng.choice([p for p in sorted(tree.rglob("*")) if p.name != "keep"])
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def rename(rng: random.Random, tree: Path) -> None:
    path = rng.choice([p for p in sorted(tree.rglob("*")) if p.name != "keep"])
    if not os.path.lexists(tree / "keep" / path.name):
        path.rename(tree / "keep" / path.name)


def remode(rng: random.Random, tree: Path) -> None:
    path = rng.choice([p for p in sorted(tree.rglob("*")) if not p.is_symlink()])
    path.chmod(
        rng.choice((0o700, 0o755, 0o777)) if path.is_dir() else rng.choice((0o600, 0o644, 0o4755))
    )


def fingerprint(path: Path) -> tuple[str, int, bytes | str]:
    mode = path.lstat().st_mode & 0o7777
    if path.is_symlink():
        return "link", mode, os.readlink(path)
    return ("dir", mode, "") if path.is_dir() else ("file", mode, path.read_bytes())


def test_what_was_swapped_and_swapped_back_was_touched(
    image: tuple[Path, Path], edit: Callable[..., tuple[Ext4View, Ext4View]]
) -> None:
    """A new time of change, another inode under the same name: no difference, yet touched."""
    before, after = edit(
        "set_inode_field /etc/passwd ctime 20300101000000",
        "set_inode_field /empty atime 20300101000000",
        "rm /home/user/run.sh",
        f"write {image[0]}/home/user/run.sh /home/user/run.sh",
        "set_inode_field /home/user/run.sh mode 0104755",
    )
    found = diff(before, after)
    owners = {("/home/user/run.sh", "owner")} if os.getuid() else set()
    assert by_kind(found.changes) == owners, "debugfs writes files as root"
    assert {"/etc/passwd", "/home/user/hard", "/home/user/run.sh"} <= found.touched
    assert "/empty" not in found.touched, "it was only read"
    assert "/usr/lib/thing.so" not in found.touched


def test_a_tree_that_was_replaced_by_its_copy_was_touched(
    edit: Callable[..., tuple[Ext4View, Ext4View]],
) -> None:
    before, after = edit(
        "mkdir /copy",
        "ln /deep/d0/d1 /copy/d1",
        "unlink /deep/d0",
        "ln /copy /deep/d0",
        "unlink /copy",
    )
    found = diff(before, after)
    assert "/deep/d0" in found.touched and "/deep/d0/d1" not in found.touched


def test_views_in_memory_tell_what_was_touched() -> None:
    found = diff(MemoryView({"/a": "1", "/b": "1"}), MemoryView({"/a": "2", "/b": "1", "/c": ""}))
    assert found.touched == {"/a"} and not found.unlisted


def test_names_that_are_no_text_are_shown_as_text_and_found(tmp_path: Path) -> None:
    """Raw bytes, text that looks like an escape, control characters: each is a name of its own."""
    names = {
        b"caf\xe9": r"caf\xe9",
        rb"caf\xe9": r"caf\x5cxe9",
        rb"caf\x5cxe9": r"caf\x5cx5cxe9",
        b"two\nlines": r"two\x0alines",
        b"red\x1b[31m": r"red\x1b[31m",
        b"\xc2\x9b31m": r"\xc2\x9b31m",
        b"\xed\xb3\xa9": r"\xed\xb3\xa9",
        b"system-getty\\x2dx.slice": r"system-getty\x2dx.slice",
        b"\xe9" * 255: r"\xe9" * 255,
        b"n" * 255: "n" * 255,
        "Gruß".encode(): "Gruß",
    }
    tree = tmp_path / "tree"
    tree.mkdir()
    base, raw = tmp_path / "empty.raw", tmp_path / "names.raw"
    form = ("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-I", "256", "-O", PLAIN)
    same = ("-U", UUID, "-E", f"hash_seed={UUID}")
    run(*form, *same, "-d", tree, base, "24M")
    for name in names:
        (Path(os.fsdecode(bytes(tree))) / os.fsdecode(name)).write_bytes(name)
        os.symlink(name, bytes(tree) + b"/to-" + name[:200])
    run(*form, *same, "-d", tree, raw, "24M")
    view = open_disk([raw])
    for name, text in names.items():
        assert view.read(f"/{text}") == name and view.stat(f"/{text}").size == len(name)
        assert view.exists(f"/{os.fsdecode(name)}"), "the guest's own spelling is found too"
        assert view.index.path(view.lookup(f"/{text}").number) == f"/{text}"
    assert view.readlink(r"/to-caf\xe9") == r"caf\xe9" and view.read(r"/to-caf\xe9") == b"caf\xe9"
    assert set(names.values()) < set(view.listdir("/")), "each is its own key"
    added = {change.path for change in diff(open_disk([base]), view).changes}
    assert {f"/{text}" for text in names.values()} < added
    assert all(path.encode() and path.isprintable() for path in added)


def test_a_name_that_a_folder_has_twice_hides_nothing(
    edit: Callable[..., tuple[Ext4View, Ext4View]],
) -> None:
    def rename(file: Path) -> None:
        file.write_bytes(file.read_bytes().replace(b"file-0040-with", b"file-0000-with"))

    before, after = edit(raw=rename)
    with pytest.raises(CorruptFileSystem, match="a name twice"):
        diff(before, after)


def test_a_flood_hides_nothing_that_matters(
    edit: Callable[..., tuple[Ext4View, Ext4View]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harmgym.disk.ext4_diff.MAX_LISTED", 10)
    new = tmp_path / "new.txt"
    new.write_text("x")
    decoys = [f"write {new} /home/user/a-{i}" for i in range(15)]
    before, after = edit(
        *decoys,
        f"write {new} /home/user/z-setuid",
        "set_inode_field /home/user/z-setuid mode 0104755",
        f"write {new} /etc/zz",
        "mkdir /home/user/.config",
        f"write {new} /home/user/.config/zz",
        "cd /home/user",
        "mknod z-disk b 254 0",
        "cd /",
        "ln /etc/passwd /home/user/z-list",
        "rm /sparse.img",
        "set_inode_field /usr/lib/thing.so mode 0100777",
    )
    found = diff(before, after)
    listed = by_kind(found.changes)
    assert {
        ("/home/user/z-setuid", "added"),
        ("/etc/zz", "added"),
        ("/home/user/.config/zz", "added"),
        ("/home/user/z-disk", "added"),
        ("/home/user/z-list", "added"),
        ("/sparse.img", "removed"),
        ("/usr/lib/thing.so", "mode"),
    } <= listed
    assert sum("/a-" in path for path, _ in listed) == 10 and found.unlisted == {"added": 5}
    said = {change.path: change.sentence() for change in found.changes}
    assert said["/home/user/z-disk"] == "block device 254:0 was added"
    assert said["/home/user/z-setuid"] == "setuid file was added"


def test_what_lies_deeper_than_a_path_reaches_is_counted(
    edit: Callable[..., tuple[Ext4View, Ext4View]],
) -> None:
    name = "n" * 250
    down = [command for _ in range(20) for command in (f"mkdir {name}", f"cd {name}")]
    found = diff(*edit("mkdir /x", "cd /x", *down))
    assert max(len(change.path) for change in found.changes) <= 4096
    assert len(found.changes) + found.unlisted["added"] == 21


def test_a_feature_that_was_turned_on_is_named(
    edit: Callable[..., tuple[Ext4View, Ext4View]],
) -> None:
    """The kernel takes a feature that is written into the superblock of a mounted disk at once."""

    def turn_on(file: Path) -> None:
        with file.open("r+b") as disk:
            disk.seek(1024 + 96)
            old = int.from_bytes(disk.read(4), "little")
            disk.seek(1024 + 96)
            disk.write((old | 0x400).to_bytes(4, "little"))

    with pytest.raises(CorruptFileSystem, match="ea_inode"):
        edit(raw=turn_on)


def test_a_changed_layout_is_no_longer_the_snapshots_disk(
    edit: Callable[..., tuple[Ext4View, Ext4View]],
) -> None:
    def turn_back(file: Path) -> None:
        with file.open("r+b") as disk:  # the revision: inodes of 128 bytes
            disk.seek(1024 + 76)
            disk.write(bytes(4))

    before, after = edit(raw=turn_back)
    with pytest.raises(CorruptFileSystem, match="layout"):
        diff(before, after)


def test_extents_out_of_order_are_no_content(
    image: tuple[Path, Path], edit: Callable[..., tuple[Ext4View, Ext4View]]
) -> None:
    """The kernel searches a tree by halves: what it finds in a wrong order is not what we read."""
    view = open_disk([image[1]])
    leaf = next(e.physical for e in view.fs.tree(view.lookup("/sparse.img")) if e.logical == -1)

    def swap(file: Path) -> None:
        with file.open("r+b") as disk:
            disk.seek(leaf * BLOCK + 12)
            first, second = disk.read(12), disk.read(12)
            disk.seek(leaf * BLOCK + 12)
            disk.write(second + first)

    with pytest.raises(CorruptFileSystem, match="out of order"):
        diff(*edit(raw=swap))


def test_flags_that_need_an_absent_feature_are_said(
    edit: Callable[..., tuple[Ext4View, Ext4View]],
) -> None:
    found = diff(*edit("set_inode_field /etc/passwd flags 0x80800")).changes
    assert {change.sentence() for change in found} == {"now encrypted"}
