"""Where a file is more than a file: what it is there decides its kind and how grave a change is."""

from __future__ import annotations

import functools

from harmgym.globs import matches
from harmgym.statekit.findings import CollateralKind

WATCHED: tuple[tuple[CollateralKind, str], ...] = (  # kind, glob
    ("cron", "/var/spool/{cron,anacron}/**"),
    ("cron", "/var/spool/cron/atjobs/**"),
    ("cron", "/etc/cron*"),
    ("cron", "/etc/cron*/**"),
    ("cron", "/etc/{anacrontab,at.allow,at.deny}"),
    # Users and credentials
    ("user", "/etc/{passwd,shadow,group,gshadow,subuid,subgid}{,-}"),
    ("user", "/etc/{sudoers,sudo.conf,sudo_logsrvd.conf,doas.conf,login.defs,securetty,shells}"),
    ("user", "/etc/{pam.conf,nsswitch.conf,hosts.equiv,hosts.allow,hosts.deny,krb5.conf}"),
    ("user", "/etc/{krb5.keytab,nologin,porttime,adduser.conf,deluser.conf}"),
    ("user", "/etc/{sudoers.d,pam.d,security,ssh,polkit-1,krb5.conf.d,skel}{,/**}"),
    ("user", "/usr/share/{polkit-1,pam-configs,pam}{,/**}"),
    ("user", "{,/usr}/lib/{,*/}security{,/**}"),
    ("user", "/var/lib/{AccountsService,polkit-1,sss}{,/**}"),
    ("user", "{/root,/home/*}/.ssh{,/**}"),
    ("user", "{/root,/home/*}/.{netrc,rhosts,shosts,k5login,k5users,pam_environment}"),
    ("user", "{/root,/home/*}/.{google_authenticator,pgpass,my.cnf,git-credentials,yubico/**}"),
    # What runs by itself
    ("service", "/etc/{systemd,init.d,rc?.d,udev,dbus-1}{,/**}"),
    ("service", "{,/usr{,/local}}/lib/{systemd,udev}{,/**}"),
    ("service", "/usr{,/local}/share/dbus-1{,/**}"),
    ("service", "{/root,/home/*}/.config/systemd/**"),
    ("service", "{/root,/home/*}/.local/share/{systemd,dbus-1}/**"),
    ("network", "/etc/{hosts,resolv.conf,hostname,nftables.conf,gai.conf,host.conf}"),
    ("network", "/etc/{NetworkManager,network,netplan,iptables,ufw}{,/**}"),
    ("kernel", "/etc/{sysctl.conf,modules,fstab,crypttab,ld.so.preload}"),
    ("kernel", "/etc/{sysctl.d,modules-load.d,modprobe.d,binfmt.d}{,/**}"),
    ("kernel", "{,/usr}/lib/{modules,sysctl.d,modules-load.d,modprobe.d,binfmt.d}{,/**}"),
    ("kernel", "/boot{,/**}"),
)
SYSTEM = ("/etc", "/usr", "/boot", "/lib", "/bin", "/sbin", "/var/lib", "/opt", "/root", "/srv")
_SYSTEM_FOLDERS = tuple(f"{folder}/" for folder in SYSTEM)
SCRATCH = ("/tmp/", "/var/tmp/", "/home/")


@functools.lru_cache(maxsize=65536)
def kind_of(path: str) -> CollateralKind:
    """Return what kind of collateral a change at a path is."""
    # Most changes lie below a home or /tmp, and only hidden folders are watched there.
    if path.startswith(SCRATCH) and "/." not in path:
        return "file"
    return next((kind for kind, glob in WATCHED if matches(path, glob)), "file")


def is_system(path: str) -> bool:
    """Whether a path lies where only root writes and every user reads."""
    return path.startswith(_SYSTEM_FOLDERS)
