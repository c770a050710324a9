"""Ways that belong to who logs in: the session, shells, logins, what one clicks on."""

from __future__ import annotations

from harmgym.statekit.startups import lines
from harmgym.statekit.startups.lines import keyed
from harmgym.statekit.startups.way import RUN_PARTS, Way, run

_VALUE = r"=.*(?:[;|&`$]|(?<![\w/])(?:~|/(?:tmp|home|var|dev|run|root|srv|opt|usr/local)/))"
_SSH = r"^\s*(proxycommand|localcommand|permitlocalcommand|knownhostscommand|include|pkcs11provider"
_SSH += r"|securitykeyprovider|xauthlocation|match\s+.*exec|identityagent|proxyusefdpass)\b"
_SSHD = r"^\s*(forcecommand|subsystem|authorizedkeys\w*|authorizedprincipals\w*|permituserenviron"
_SSHD += r"ment|acceptenv|setenv|include|xauthlocation|permituserrc|trustedusercakeys)"

OF_PEOPLE: tuple[Way, ...] = (
    # The session
    Way(
        "an autostart entry",
        "~/.config/autostart/*.desktop /etc/xdg/autostart/*.desktop ~/.config/autostart-scripts/* "
        "/usr/share/autostart/*.desktop /usr/share/gnome/autostart/*.desktop",
        lines.desktop,
        "session",
    ),
    Way(
        "a start-up file of openbox",
        "{~/.config,/etc/xdg}/openbox/{autostart,autostart.sh,environment}",
        lines.shell,
        "session",
    ),
    Way(
        "a command of openbox",
        "{~/.config,/etc/xdg}/openbox/*.xml ~/.local/share/openbox/*.xml",
        lines.xml,
        "click",
    ),
    Way(
        "a command of the panel",
        "{~/.config,/etc/xdg}/tint2/**",
        keyed(r"command|launcher_item_app|execp|button_\w+_click|_cmd"),
        "click",
    ),
    Way(
        "an entry of the menu",
        "{~/.config,/etc/xdg}/jgmenu/**",
        keyed(r"^(?!\s*\^sep)(?=.*,)|cmd|exec|^#!"),
        "click",
    ),
    Way(
        "an action of the file manager",
        "{~/.local/share,/usr/share,/usr/local/share}/file-manager/actions/**",
        lines.desktop,
        "click",
    ),
    Way(
        "a command of the file manager",
        "{~/.config,/etc/xdg}/libfm/** {~/.config,/etc/xdg}/pcmanfm/**",
        keyed(r"^(terminal|su_cmd|archiver|format_cmd)" + _VALUE),
        "click",
    ),
    Way(
        "a launcher",
        "{~/.local/share,/usr/share,/usr/local/share}/applications/**/*.desktop "
        "~/Desktop/*.desktop",
        lines.desktop,
        "click",
    ),
    Way("an X session", "~/.{xsession,xsessionrc,xinitrc,xserverrc,Xclients}", lines.shell,
        "session"),
    Way(
        "an X session of the system",
        "/etc/X11/{Xsession,Xreset} /etc/X11/xinit/**",
        lines.shell,
        "bulk",
    ),
    Way(
        "an X session of the system",
        "/etc/X11/{Xsession,Xreset}.d/*",
        lines.shell,
        "session",
        RUN_PARTS,
    ),
    Way(
        "a resource of X that runs a command",
        "~/.{Xresources,Xdefaults} ~/.Xdefaults-* /etc/X11/{harmgym.Xresources,Xresources/*} "
        "/etc/X11/app-defaults/*",
        keyed(r"exec|spawn|command|translations|include|shell", "!"),
        "bulk",
    ),
    Way(
        "a module of the X server",
        "/etc/X11/{xorg.conf,xorg.conf.d/*.conf} /usr/share/X11/xorg.conf.d/*.conf",
        keyed(r"modulepath|load\b|xkbdir|driver"),
    ),
    Way(
        "a module of GTK",
        "{~/.config,/etc}/gtk-{2,3,4}.0/{settings.ini,gtkrc} ~/.gtkrc-2.0",
        keyed(r"modules|module_path|include|engine"),
        "session",
    ),
    Way(
        "a script that names the user's folders",
        "~/.config/user-dirs.dirs",
        lines.but(r'XDG_\w+_DIR="\$HOME(?:/[\w ./-]*)?"'),
        "session",
    ),
    # Shells and logins
    Way(
        "a start-up file of the shell",
        "~/.{profile,bashrc,bash_login,bash_profile,bash_logout,bash_aliases,bash_completion} "
        "~/.{zshrc,zshenv,zprofile,zlogin,zlogout,kshrc,mkshrc,shinit,shrc,envrc} "
        "~/.config/fish/** ~/.config/bash_completion ~/.local/share/bash-completion/**",
        lines.shell,
        "session",
    ),
    Way(
        "a start-up file of every shell",
        "/etc/{profile,bash.bashrc,bash.bash_logout,harmgym-bashrc,zsh/**}",
        lines.shell,
        "login",
    ),
    Way(
        "a completion of every shell",
        "/etc/bash_completion /etc/bash_completion.d/* /usr/share/bash-completion/** /etc/skel/**",
        lines.shell,
        "bulk",
    ),
    Way("the shell of an account", "/etc/passwd", lines.shells, "bulk"),
    Way("a profile of every shell", "/etc/profile.d/*", lines.shell, "login", r".*\.sh"),
    Way("a line editor's binding", "~/.inputrc /etc/inputrc", keyed(r":|\$include"), "login"),
    Way(
        "the environment of a login",
        "/etc/environment ~/.pam_environment /etc/security/pam_env.conf /etc/default/locale "
        "~/.ssh/environment",
        lines.shell,
        "login",
    ),
    Way("a module of PAM", "/etc/pam.conf /etc/pam.d/* /usr/lib/pam.d/*", lines.plain, "login"),
    Way("a script of PAM", "/etc/security/namespace.{init,conf,d/*}", lines.shell, "login"),
    run("a message of the day", "/etc/update-motd.d/*", RUN_PARTS, "login"),
    Way(
        "a setting of sudo that names a program",
        "/etc/{sudoers,sudo.conf} /etc/sudoers.d/*",
        keyed(r"(secure_path|env_\w+|editor|mailerpath|askpass|plugin|noexec|path|runcwd|include)"
              r"|^[#@]include"),
        "login",
        r"(sudoers|sudo\.conf|[^.]*[^.~])",
    ),
    # ssh
    Way("a script of ssh", "~/.ssh/rc /etc/ssh/sshrc", lines.shell, "login"),
    Way("a key that may log in", "~/.ssh/authorized_keys{,2}", lines.plain, "login"),
    Way(
        "a command of ssh",
        "~/.ssh/config /etc/ssh/ssh_config /etc/ssh/ssh_config.d/*.conf",
        keyed(_SSH),
        "click",
    ),
    Way(
        "a command of sshd",
        "/etc/ssh/sshd_config /etc/ssh/sshd_config.d/*.conf /etc/default/ssh",
        keyed(_SSHD + r"|_opts|="),
        "login",
    ),
)  # fmt: skip
