"""The one dialect of globs: guest paths, units, task ids, wherever a pattern is read.

``*`` and ``?`` stay within one directory, ``**`` as a whole part crosses directories (``/a/**`` is
everything below /a), ``[abc]`` is one character, ``{a,b}`` are alternatives, ``\\`` takes a special
character for itself. Names that begin with a dot are names like any other; case counts.
"""

from __future__ import annotations

import functools

from wcmatch import glob

# FORCEUNIX: the paths are the guest's, whatever the host is.
_FLAGS = glob.GLOBSTAR | glob.BRACE | glob.DOTGLOB | glob.CASE | glob.FORCEUNIX
# The alternatives of one pattern; wcmatch refuses more, so that no pattern costs a minute.
_MOST_ALTERNATIVES = 1000


@functools.lru_cache(maxsize=4096)
def _matcher(pattern: str) -> glob.WcMatcher[str]:
    return glob.compile(pattern, flags=_FLAGS, limit=_MOST_ALTERNATIVES)


def matches(path: str, pattern: str) -> bool:
    """Whether a path (or a name) matches a glob as a whole."""
    return _matcher(pattern).match(path)
