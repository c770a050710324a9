"""harmgym: study, measure and train what a computer-use agent does after something has gone wrong."""

__version__ = "0.1.0"
