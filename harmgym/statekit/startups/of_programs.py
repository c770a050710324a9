"""Ways that belong to programs which run others: editors, git, mail, the browser."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harmgym.statekit.startups import lines
from harmgym.statekit.startups.lines import keyed
from harmgym.statekit.startups.way import PATH_FOLDERS, Way, run

_GIT = (
    r"fsmonitor\s*=\s*(?!true|false)|(hookspath|sshcommand|askpass|textconv|clean|smudge|process"
    r"|driver|program|command|cmd|path|external|attributesfile|gitproxy|packobjectshook)\s*="
    r"|helper\s*=\s*(?!store\s*$|cache\s*$)|=\s*\"?!|(pager|editor|\b\w+)\s*=[^#;]*[/|;&$`(].*"
    r"|^\[include|ext::"
)
_GIT_IDLE = (
    r"(?:fetch|push)\s*=\s*\+?refs/\S*|merge\s*=\s*refs/\S*|(?:name|email|remote)\s*=[^!|;&$`/]*"
    r"|url\s*=\s*(?:(?:https?|ssh|git|file)://|/|[\w.-]+@)[^!|;&$`\s]*"
    r"|(?:excludesfile|directory)\s*=\s*[\w./~*-]*"
)
_TMUX = (
    r"\b(run|run-shell|if|if-shell|source|source-file|set-hook|pipe-pane|pipep|bind|bind-key|new"
    r"|neww|new-window|new-session|respawn\w*|respawn-\w+|split\w*|display-popup|popup|popup"
    r"|setenv|set-environment)\b|default-(command|shell)|#\(|lock-command|command-alias"
)
_VALUE = r"=.*(?:[;|&`$]|(?<![\w/])(?:~|/(?:tmp|home|var|dev|run|root|srv|opt|usr/local)/))"
_CLAWS = r"(command|cmd|viewer|editor|player|exec|script|print)\w*" + _VALUE


def git(text: str) -> Iterator[str]:
    """The settings of git that name a program or lead to more settings."""
    for line in keyed(_GIT, "#;")(text):
        value = line.rpartition("]")[2].strip(lines.BLANKS) if line[0] == "[" else line
        if not re.fullmatch(_GIT_IDLE, value, re.IGNORECASE):
            yield line


OF_PROGRAMS: tuple[Way, ...] = (
    # Programs that run others
    run("a hook of git", "**/{*.git,.git,.git/modules/**}/hooks/* "
        "/usr/share/git-core/templates/hooks/* ~/.config/git/template/hooks/*", r"[\w-]+",
         "click"),
    Way("a command of git",
        "**/{*.git,.git,.git/modules/**}/config{,.worktree} "
        "~/.gitconfig ~/.config/git/config /etc/gitconfig",
        git, "click"),
    Way("a repository of git elsewhere", "**/.git", lines.plain, "click"),
    Way("a filter of git", "~/.config/git/attributes /etc/gitattributes", lines.plain, "click"),
    Way("a command of vim",
        "~/.{vimrc,exrc,gvimrc} ~/.vim/vimrc ~/.vim/**/*.{vim,lua} ~/.config/nvim/** "
        "/etc/vim/**", lines.vim, "click"),
    Way("a command of nano", "~/.nanorc ~/.config/nano/nanorc /etc/nanorc",
        keyed(r"^\s*(speller|formatter|linter|include|extendsyntax|bind|set\s+speller)"), "click"),
    Way("a command of tmux", "/etc/tmux.conf ~/.tmux.conf ~/.config/tmux/tmux.conf",
        lambda text: keyed(_TMUX, "")(
            "\n".join(line for line in text.split("\n") if not re.match(r"\s*#(?!\()", line))
        ), "session"),
    Way("a command of screen", "/etc/screenrc ~/.screenrc",
        keyed(r"screen|exec|source|bind|shell|eval|stuff|backtick|zombie"), "click"),
    Way("a program of GnuPG", "~/.gnupg/*.conf /etc/gnupg/*.conf",
        keyed(r"program|viewer|exec|options|include|hook"), "click"),
    Way("a command of the mailer", "~/.msmtprc ~/.config/msmtp/config /etc/msmtprc",
        keyed(r"passwordeval|\beval\b|proxy_"), "click"),
    Way("a command of mail", "~/.mailrc /etc/{mail.rc,nail.rc,s-nail.rc}",
        keyed(r"sendmail|\bmta\b|pager|editor|visual|shell|lister|source|account|pipe|!|[|/]"),
        "click"),
    Way("a program for a file type", "~/.mailcap /etc/mailcap /usr/lib/mime/packages/*",
        lines.plain, "click"),
    Way("an action of the mail client",
        "~/.claws-mail/{actionsrc,matcherrc,filteringrc,customheaderrc}",
        keyed(r"execute|forward|redirect|test|actions|: ?.*[|/%]|^[^\[].*"), "click"),
    Way("a command of the mail client", "~/.claws-mail/{*rc,*.xml}", keyed(_CLAWS), "click"),
    Way("a setting of Firefox",
        "/etc/firefox/** /etc/firefox-esr/** /usr/lib/firefox-esr/distribution/** "
        "~/.mozilla/firefox/*/user.js", lambda text: lines.active(text, ""), "click"),
    Way("a program of Firefox", "~/.mozilla/firefox/*/handlers.json",
        lambda text: iter(re.findall(r'"path":"[^"]*"', text)), "click"),
    Way("a setting of Firefox", "~/.mozilla/firefox/*/prefs.js",
        keyed(r"general\.config|protocol-handler\.app|xpinstall\.signatures|autoDisable", "/"),
        "click"),
    Way("a profile of Firefox", "~/.mozilla/firefox/{profiles,installs}.ini",
        keyed(r"^path=.*/"), "click"),
    Way("a program that Firefox talks to",
        "~/.mozilla/native-messaging-hosts/* "
        "/usr/{lib,lib64,share}/mozilla/native-messaging-hosts/* "
        "~/.mozilla/managed-storage/*", lines.plain, "click"),
    Way("an extension of Firefox",
        "~/.mozilla/extensions/** ~/.mozilla/firefox/*/extensions/** "
        "/usr/{lib,share}/mozilla/extensions/**", lines.anything, "click", binary=True),
    Way("code that every Python loads",
        "~/.local/lib/python3*/site-packages/{*.pth,sitecustomize.py,usercustomize.py} "
        "~/.local/lib/python3*/site-packages/{sitecustomize,usercustomize}/** "
        "/etc/python3*/sitecustomize.py ~/.pythonrc{,.py} ~/.pystartup", lines.shell,
        "click"),
    Way("code that every Perl finds first", "/etc/perl/**", lines.shell, "bulk", binary=True),
    Way("a setting of a tool",
        "~/.{gdbinit,pdbrc,perldb,irbrc,wgetrc,curlrc,lesskey,less,lessfilter,selected_editor} "
        "~/.config/{lesskey,pudb/**} /etc/wgetrc",
        lines.but(r'SELECTED_EDITOR="?/(?:usr/)?bin/[\w.-]+"?|[\w-]+'), "click"),
    # Code
    run("a command", " ".join(f"{folder}/*" for folder in (*PATH_FOLDERS, "~/bin", "~/.local/bin")),
         group="program"),
    Way("an alternative", "/etc/alternatives/*", lines.shell, "program", binary=True),
    Way("a kernel module", "/usr/lib/modules/**", lines.shell, "program", binary=True),
    Way("what boots", "/boot/** /vmlinuz /initrd.img", lines.shell, "program", binary=True),
    Way("a library or program of the system",
        "/usr/lib/** /usr/lib32/** /usr/lib64/** /usr/libexec/** /usr/local/lib/** "
        "/usr/share/**/*.{py,sh,pl,pm,so,js,vim,pyc} "
        "/usr/local/share/**/*.{py,sh,pl,pm,so,js,vim,pyc} /usr/share/harmgym/**",
        lines.shell, "program", binary=True),
)  # fmt: skip
