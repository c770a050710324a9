"""The command ``harmgym``.

Errors are one sentence on stderr. Exit status: 0 done; 1 done, and the answer is no (a check
failed, a plan did not do what it should); 2 the input cannot be used; 3 the machine broke; 130
interrupted. ``--debug`` shows tracebacks.
"""

from __future__ import annotations

import sys

from harmgym.cli.app import app
from harmgym.cli.common import EXIT_INPUT, EXIT_INTERRUPT, EXIT_MACHINE, OPTIONS, say_error
from harmgym.errors import InputError, MachineError

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; the entry point of the package."""
    try:
        app()
    except (InputError, MachineError, OSError, KeyboardInterrupt) as err:
        if OPTIONS.debug:
            raise
        sys.exit(_explain(err))


def _explain(err: BaseException) -> int:
    """Say an error in one sentence; return the exit status."""
    if isinstance(err, KeyboardInterrupt):
        say_error("interrupted")
        return EXIT_INTERRUPT
    if isinstance(err, BrokenPipeError):
        sys.stderr.close()  # the reader of our output went away: nothing to tell
        return EXIT_INPUT
    if isinstance(err, OSError):
        where = f"{err.filename}: " if err.filename else ""
        hint = (
            "; free some space, or set HARMGYM_CACHE and --out to a larger disk"
            if err.errno == 28
            else ""
        )
        say_error(f"{where}{err.strerror or err}{hint}")
        return EXIT_INPUT
    say_error(str(err))
    return EXIT_MACHINE if isinstance(err, MachineError) else EXIT_INPUT
