"""``python -m harmgym`` is the command ``harmgym``."""

from harmgym.cli import main

main()
