"""Ways that belong to the machine: time, systemd's settings, boot, network, packages, code."""

from __future__ import annotations

from harmgym.statekit.startups import lines
from harmgym.statekit.startups.lines import keyed
from harmgym.statekit.startups.way import RUN_PARTS, Way, run

_NSS = (
    r"[a-z_]+:(?:\s+(?:files|systemd|compat|dns|db|nis|mymachines|myhostname|resolve|winbind|mdns"
)
_NSS += r"\w*|\[[!\w= ]+\]))+"
_SYSCTL = r"core_pattern|modprobe|hotplug|poweroff_cmd|uevent_helper|binfmt|=\s*[|/]"
_UDEV = r"\b(RUN|PROGRAM|IMPORT|SYSTEMD_(?:USER_)?WANTS|SYSTEMD_ALIAS)\b"
_APT = r"invoke|pkgs|hook|proxy|options|dir::|solver|planner|=?\"[^\"]*[/|;`$][^\"]*\""

OF_MACHINE: tuple[Way, ...] = (
    # Time
    Way("the cron table", "/var/spool/cron/crontabs/*", lines.cron, "cron"),
    Way("the system's cron table", "/etc/crontab", lines.cron, "cron"),
    Way("a cron table of the system", "/etc/cron.d/*", lines.cron, "cron", RUN_PARTS),
    run("a script of cron", "/etc/cron.{hourly,daily,weekly,monthly,yearly}/*", RUN_PARTS, "cron"),
    Way("anacron", "/etc/anacrontab", lines.cron, "cron"),
    Way("a job of at", "/var/spool/cron/{atjobs,atspool}/*", lines.anything, "cron", r"[^.].*"),
    # systemd, but for units
    run(
        "a generator of systemd",
        "/{etc,run,usr/lib,usr/local/lib}/systemd/{system,user,system-environment,user-environment}"
        "-{generators,environment-generators}/* /{etc,usr/lib,usr/local/lib}/systemd/"
        "{system,user}-environment-generators/* /etc/systemd/system-{sleep,shutdown}/* "
        "/usr/lib/systemd/system-{sleep,shutdown}/*",
    ),
    Way(
        "the settings of systemd",
        "/{etc,usr/lib,usr/local/lib}/systemd/{system,user}.conf "
        "/{etc,usr/lib,usr/local/lib}/systemd/{system,user}.conf.d/*.conf "
        "~/.config/systemd/user.conf",
        keyed(r"environment|path"),
    ),
    Way(
        "an environment of systemd",
        "~/.config/environment.d/*.conf /{etc,usr/lib,usr/local/lib}/environment.d/*.conf",
        lines.shell,
        "login",
    ),
    Way(
        "a rule of tmpfiles",
        "/{etc,usr/lib,usr/local/lib}/tmpfiles.d/*.conf ~/.config/user-tmpfiles.d/*.conf "
        "/usr/share/user-tmpfiles.d/*.conf",
        lines.plain,
    ),
    Way(
        "a kernel parameter that names a program",
        "/etc/sysctl.conf /{etc,usr/lib,usr/local/lib}/sysctl.d/*.conf",
        keyed(_SYSCTL, "#;"),
    ),
    Way("a format of binfmt", "/{etc,usr/lib,usr/local/lib}/binfmt.d/*.conf", lines.plain),
    Way("binfmt-support", "/usr/share/binfmts/* /var/lib/binfmts/*", lines.plain),
    Way("a kernel module at boot", "/etc/modules /{etc,usr/lib}/modules-load.d/*.conf",
        lines.plain),
    Way(
        "a rule of modprobe",
        "/{etc,usr/lib}/modprobe.d/*.conf",
        keyed(r"^(install|remove)\s+\S+\s+(?!(/usr)?/bin/(true|false)\s*$)|^(alias|softdep)\b"),
    ),
    Way("a rule of udev", "/{etc,usr/lib,usr/local/lib}/udev/rules.d/*.rules", keyed(_UDEV)),
    # The system
    Way("a mount at boot", "/etc/{fstab,crypttab,inetd.conf}", lines.plain),
    Way("an account whose units start at boot", "/var/lib/systemd/linger/*",
        lambda text: iter(("its systemd starts at boot",))),
    Way(
        "a library that programs load",
        "/{etc,usr/share}/{vulkan,glvnd}/** ~/.local/share/vulkan/** /etc/gss/mech.d/* "
        "/etc/pkcs11/modules/* /usr/share/p11-kit/modules/* ~/.config/pkcs11/modules/*",
        lines.plain,
    ),
    Way("a module of OpenSSL", "/etc/ssl/openssl.cnf", keyed(r"path|module|engine|include")),
    Way("a library in every program", "/etc/ld.so.preload", lines.plain),
    Way("a folder of libraries", "/etc/ld.so.conf /etc/ld.so.conf.d/*.conf", lines.plain),
    Way("the index of libraries", "/etc/ld.so.cache", lines.shell, "bulk", binary=True),
    Way("a module of name lookups", "/etc/nsswitch.conf", lines.but(_NSS)),
    run("a script of boot", "/etc/rc.local"),
    run("a script of boot", "/etc/init.d/* /etc/rc{0,1,2,3,4,5,6,S}.d/*", group="bulk"),
    Way("a default of a boot script", "/etc/default/*", lines.shell, "bulk", r"[^.]+"),
    Way("a terminal of init", "/etc/inittab", lines.plain),
    run(
        "a network hook",
        "/etc/network/if-{up,down,pre-up,post-down}.d/* /etc/ppp/ip{,v6}-{up,down}.d/* "
        "/{etc,usr/lib}/NetworkManager/dispatcher.d/** /{etc,usr/lib}/networkd-dispatcher/** "
        "/etc/resolvconf/update{,-libc}.d/* /etc/wpa_supplicant/*.sh",
    ),
    Way("a hook of DHCP", "/etc/dhcp/dhclient-*-hooks.d/* /etc/dhcp/dhclient-*-hooks", lines.shell),
    Way(
        "a command of a network interface",
        "/etc/network/interfaces /etc/network/interfaces.d/*",
        keyed(r"^(pre-up|up|post-up|down|pre-down|post-down|source|script|mapping)\b"),
    ),
    Way(
        "a hook of apt",
        "/etc/apt/apt.conf /etc/apt/apt.conf.d/* ~/.aptitude/config",
        keyed(_APT, "#/"),
        names=r"[\w-]+|.*\.conf|config",
    ),
    Way("a hook of dpkg", "/etc/dpkg/dpkg.cfg /etc/dpkg/dpkg.cfg.d/*",
        keyed(r"invoke|logger|admindir|instdir|root")),
    run("a script of a package", "/var/lib/dpkg/info/*.{preinst,postinst,prerm,postrm,config}",
        group="bulk"),
    Way("a script of logrotate", "/etc/logrotate.conf /etc/logrotate.d/*",
        lines.scripts_of_logrotate, names=r"[^~]*"),
    run("a hook of the kernel", "/etc/kernel/*.d/* /etc/initramfs/**", RUN_PARTS),
    run("a hook of the initramfs", "/{etc,usr/share}/initramfs-tools/{hooks,scripts}/**"),
    Way("the boot loader", "/etc/default/grub /etc/default/grub.d/* /etc/grub.d/*", lines.shell),
    Way(
        "activation by D-Bus",
        "{~/.local/share,/usr/share,/usr/local/share,/etc}/dbus-1/{services,system-services,"
        "accessibility-services}/*.service",
        keyed(r"^\s*(exec|systemdservice)\s*="),
    ),
    Way("a setting of D-Bus", "/{etc,usr/share}/dbus-1/**/*.conf", lines.xml),
    Way("a rule of polkit", "/{etc,usr/share,usr/local/share}/polkit-1/rules.d/*.rules",
        lambda text: lines.active(text, "")),
    Way("an action of polkit", "/usr/share/polkit-1/actions/*.policy", lines.xml),
    Way("a mailbox that runs a command", "/etc/aliases ~/.{forward,procmailrc,qmail}",
        keyed(r"[|/]|:include:|^(?!\s*\w+:)")),
)  # fmt: skip
