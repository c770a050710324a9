"""Measure resets, steps and density on this host, keep the results, and write the README's table of
figures from them.

python benchmarks/figures.py                  measure (about ten minutes without KVM) and write
python benchmarks/figures.py --from-results   write the table again from benchmarks/results.json
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS, README = HERE / "results.json", HERE.parent / "README.md"
# Not in results that were measured before there was such a figure.
VARIANTS = {
    "cold_variant_ms": "`reset()` to a variant set up before, nothing of it in memory",
    "new_variant_ms": "`reset()` to a variant for the first time, its set-up included",
}
BEGIN, END = "<!-- figures:begin", "<!-- figures:end -->"


def measure() -> dict[str, Any]:
    """Run the three benchmarks one after the other."""
    from harmgym.bench import bench

    def note(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    parts = {
        "reset": bench.reset(each=3, note=note),
        "step": bench.step(note=note),
        "density": bench.density(note=note),
    }
    return {"measured": datetime.datetime.now(datetime.UTC).date().isoformat(), **parts}


def table(results: dict[str, Any]) -> str:
    """Return the README's section between its markers."""
    reset, step, density = results["reset"], results["step"], results["density"]
    machine, ratios = reset["machine"], reset["ratios"]

    def row(name: str, figure: dict[str, float]) -> str:
        return f"| {name} | {_ms(figure['p50'])} | {_ms(figure['p95'])} | {figure['n']} |"

    rows = [
        row("`reset()` with a standby ready, to the full observation", reset["standby_reset_ms"]),
        row("`reset()` by a fresh clone", reset["clone_reset_ms"]),
        row("QEMU's own `loadvm` of the same machine", reset["loadvm_ms"]),
        row("boot from power-off to the same desktop", reset["cold_boot_ms"]),
        *(row(name, reset[key]) for key, name in VARIANTS.items() if key in reset),
        row("step with a shell builtin, all observations included", step["shell_step_ms"]),
        row("step with a key", step["key_step_ms"]),
        row("step with a click", step["click_step_ms"]),
        row("verdict: checks and the whole difference of the disk", step["verdict_ms"]),
    ]
    what = (
        f"{machine['accelerator'].upper()}, {machine['cores']} cores of {machine['cpu']}, "
        f"QEMU {machine['qemu']}"
    )
    return "\n".join(
        [
            f"{BEGIN}: written by benchmarks/figures.py from benchmarks/results.json -->",
            "",
            f"Measured on {results['measured']}: {what}, load {machine['load']:g}, "
            f"guest of {machine['memory_mib']} MiB.",
            "",
            "| figure | p50 | p95 | n |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
            f"A boot takes {ratios['cold_boot_over_standby']:.0f} times as long as a reset with a "
            f"standby, and `loadvm` {ratios['loadvm_over_clone']:.1f} times as long as a fresh "
            f"clone. An idle clone holds {density['private_mib']:.0f} MiB for itself and uses "
            f"{density['idle_cpu_percent']:.1f} % of a core; {density['alive']} clones were alive "
            f"at once, all answering, in {density['total_mib'] / 1024:.1f} GiB.",
            "",
            END,
        ]
    )


def _ms(value: float) -> str:
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.0f} ms"


def write(results: dict[str, Any]) -> None:
    """Put the table into the README. Raises: SystemExit when the markers are missing."""
    text = README.read_text(encoding="utf-8")
    start, end = text.find(BEGIN), text.find(END)
    if start < 0 or end < start:
        raise SystemExit(
            f"{README}: needed the markers {BEGIN!r} and {END!r}, found none; put them back"
        )
    README.write_text(text[:start] + table(results) + text[end + len(END) :], encoding="utf-8")


def main() -> None:
    """Measure unless told otherwise, then write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from-results", action="store_true", help="do not measure")
    if not parser.parse_args().from_results:
        RESULTS.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    write(json.loads(RESULTS.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
