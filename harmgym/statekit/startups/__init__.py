"""Every way in which a Debian desktop starts a program: where each is written down (`places`),
which lines of such a file act (`lines`, `units`), and what an episode added to them (`planted`).

A way's places are globs of guest paths, separated by blanks: ``~/`` is the home of every account,
the system's own and root's among them; ``**/`` is anywhere.
"""
