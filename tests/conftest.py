"""Settings for all tests, and the list of what was skipped at the end of every run."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import settings

# A deadline for each example fails on a busy host, and says nothing about the code.
settings.register_profile("harmgym", deadline=None)
settings.load_profile("harmgym")

# A shell starts jobs in the background with Ctrl-C ignored, and programs that tests start and
# interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Under nohup the same holds of the signal by which an app is told of its content.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Debian keeps mke2fs and debugfs where an ordinary user's PATH does not look.
os.environ["PATH"] += ":/usr/sbin:/sbin"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--allowed-skips",
        metavar="FILE",
        type=Path,
        help="fail the run when a test is skipped for a reason that does not begin with a line of "
        "FILE (# starts a comment)",
    )


def skipped(config: pytest.Config) -> dict[str, list[str]]:
    """Return reason -> the tests (or whole modules) skipped for it, workers' tests included."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    found: dict[str, list[str]] = defaultdict(list)
    for report in reporter.stats.get("skipped", []) if reporter else []:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        found[reason.removeprefix("Skipped: ")].append(report.nodeid)
    return found


def not_allowed(config: pytest.Config) -> list[str]:
    """Return the reasons that are not in the file of --allowed-skips; none without the option."""
    path = config.getoption("allowed_skips")
    if path is None:
        return []
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    allowed = tuple(line for line in lines if line and not line.startswith("#"))
    return [reason for reason in skipped(config) if not reason.startswith(allowed)]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    # Workers of pytest-xdist have no terminal reporter; the controller sees their reports.
    if exitstatus == pytest.ExitCode.OK and not_allowed(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say what was skipped and why, right above pytest's closing line."""
    wrong = not_allowed(config)
    for reason, tests in sorted(skipped(config).items()):
        mark = f" (not in {config.getoption('allowed_skips')})" if reason in wrong else ""
        terminalreporter.write_line(f"skipped, {reason}{mark}:", yellow=True, red=bool(mark))
        for test in tests:
            terminalreporter.write_line(f"    {test}")
