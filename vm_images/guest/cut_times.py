"""Cut the times of files at a moment: `cut_times.py SECONDS PATH...`; the build runs it inside the
new system.

The guest's clock starts before the packages were built, and no file may come from its future. Byte
code remembers the time of its source, so a cut source takes its byte code along. Change times are
cut later, on the finished disk.
"""

import os
import struct
import sys


def main(until: int, roots: list[str]) -> None:
    for root in roots:
        device = os.lstat(root).st_dev
        for folder, folders, names in os.walk(root):
            folders[:] = [
                name for name in folders if os.lstat(os.path.join(folder, name)).st_dev == device
            ]
            for path in [os.path.join(folder, name) for name in (*names, *folders)]:
                found = os.lstat(path)  # a single file may be the host's, such as /dev/null
                if found.st_mtime > until and found.st_dev == device:
                    os.utime(path, (until, until), follow_symlinks=False)
                    if path.endswith(".py"):
                        retime_byte_code(path, until)
        os.utime(root, (until, until))


def retime_byte_code(source: str, until: int) -> None:
    """Write a source's new time into its byte code. Layout: magic, flags (0: tied to the time),
    time, size; 4 bytes each.
    """
    folder, name = os.path.split(source)
    cache = os.path.join(folder, "__pycache__", f"{name[:-3]}.{sys.implementation.cache_tag}.pyc")
    if not os.path.exists(cache):
        return
    with open(cache, "r+b") as file:
        if struct.unpack("<4xI8x", file.read(16))[0] == 0:
            file.seek(8)
            file.write(struct.pack("<I", until))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
