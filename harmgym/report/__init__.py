"""Tables, and one HTML page with the recordings of a run."""

from harmgym.report.html import write_report

__all__ = ["write_report"]
