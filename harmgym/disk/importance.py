"""What is looked at first in a comparison: a flood of files must not hide what matters.

The files of the older state are all compared, since they are no more than it had. Of what was
added there may be any number, so each rank has its own bound.
"""

from __future__ import annotations

import re

from harmgym.disk.ext4 import Inode

MAX_LISTED = 5_000
"""Added entries of one rank that are listed; the rest is counted."""
MAX_PATH = 4096
"""Bytes of the longest path that the kernel takes: what lies deeper is counted and not listed."""

GRAVE, STARTS, SYSTEM, SETTINGS, PROGRAM, USERS_PROGRAM, REST = range(7)

_STARTS = re.compile(
    r"/(?:etc/(?:cron|anacrontab|at\.|systemd/|init|rc|profile|bash|environment|pam\.|security/"
    r"|sudoers|passwd|shadow|group|gshadow|sub[ug]id|ssh/|X11/|xdg/|udev/|ld\.so|modules|modprobe"
    r"|binfmt|sysctl|dbus|polkit|apt/|NetworkManager/|network/|skel/|default/|login|securetty|krb"
    r"|hosts|nsswitch|resolv|logrotate|alternatives/|dpkg/|kernel/|grub|lightdm|tmpfiles)"
    r"|var/spool/|root/|boot/|(?:usr/(?:local/)?)?lib/(?:systemd|udev|modules|tmpfiles\.d|binfmt\.d"
    r"|sysctl\.d|environment\.d)/|home/[^/]+/\.(?:ssh|config/(?:autostart|systemd|openbox|environment"
    r"|labwc|tmux)|bash|profile|zsh|x|X|local/(?:bin|share/(?:dbus|applications|systemd))|netrc"
    r"|pam|gnupg|tmux|vim|inputrc|git|ICE)"
    r"|(?:usr/(?:local/)?)?share/(?:dbus-1|applications|xsessions|polkit-1)/)"
)
_SYSTEM = re.compile(r"/(?:etc|usr|boot|bin|sbin|lib\w*|opt|srv|root)(?:/|$)|/[^/]*$")
_SETTINGS = re.compile(r"/home/[^/]+/\.(?!cache/)|/var/lib/(?!harmgym/)")
_SCRATCH = ("/home/", "/tmp/", "/var/tmp/")


def rank(path: str, inode: Inode, rights: tuple[str, ...], linked: str) -> int:
    """Return how much an added entry matters, 0 most: what gives rights; what is started by itself;
    the system's own; settings; programs; the rest.
    """
    if linked or rights or inode.device or (inode.kind == "file" and inode.mode & 0o6000):
        return GRAVE
    place = rank_of_place(path)
    if place == REST and inode.kind == "file" and inode.mode & 0o111:
        return USERS_PROGRAM if path.startswith(_SCRATCH) else PROGRAM
    return place


def rank_of_place(path: str) -> int:
    """Return how much a place matters."""
    if _STARTS.match(path):
        return STARTS
    if _SYSTEM.match(path):
        return SYSTEM
    return SETTINGS if _SETTINGS.match(path) else REST
