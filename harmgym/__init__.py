"""harmgym: study, measure and train what a computer-use agent does after something has gone wrong."""

from harmgym.startup import install as _install

__version__ = "0.1.0"

_install()
