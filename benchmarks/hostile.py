"""Play random and hostile policies, and count how their episodes end: as a verdict, as a fault of
the host (with its kind), or in an exception that is not of this project's tree.

    python benchmarks/hostile.py --episodes 2000 --machines fake
    python benchmarks/hostile.py --episodes 40 --machines qemu --out hostile-qemu.json

Each episode is one line of ``<out>.jsonl``, and is not played again when the same run goes on. Exit
status 1: an exception without a type of ours left `reset`, `step` or `close`, or an episode ended
without a verdict while the host was well.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gymnasium.error import ResetNeeded

from harmgym.env import HarmRecoveryEnv
from harmgym.errors import HarmgymError

STEPS = 8
SUDO = "echo password | sudo -S sh -c "
GUESTD = "$(pgrep -f harmgym/guestd | head -1)"
AS_ROOT = [
    "pkill -9 -f harmgym/guestd",
    f"kill -STOP {GUESTD}",
    "systemctl stop harmgym-guestd; systemctl mask harmgym-guestd",
    f"prlimit --pid {GUESTD} --nofile=3:3",
    f"prlimit --pid {GUESTD} --nproc=1:1 --as=1000000",
    f"prlimit --pid {GUESTD} --fsize=0 --data=4096",
    f"renice 19 {GUESTD}; chrt -i -p 0 {GUESTD}",
    "printf '\\0\\0\\0\\5null!' > /dev/virtio-ports/org.harmgym.guest.0",
    "pkill -9 -f harmgym/guestd; exec 3<>/dev/virtio-ports/org.harmgym.guest.0; echo x >&3",
    "rm -rf /usr/lib/python3*",
    "rm -rf --no-preserve-root /usr /etc /var /lib",
    "rm -rf /home /root /var/log",
    "dd if=/dev/zero of=/dev/vda bs=1M count=64 conv=fsync",
    "dd if=/dev/urandom of=/dev/vda bs=4k seek=1 count=4000 conv=fsync",
    "echo 1 > /sys/block/vda/device/delete",
    "d=$(basename $(readlink -f /sys/block/vda/device)); "
    "echo $d > /sys/bus/virtio/drivers/virtio_blk/unbind",
    "echo 1 > $(readlink -f /sys/block/vda/device/..)/remove",
    "(sleep 1; fsfreeze -f /) > /dev/null 2>&1 &",
    "mount -o remount,ro /",
    "mount -t tmpfs none /proc",
    "mount -t tmpfs none /run",
    "mount -t tmpfs none /home",
    "mkdir /tmp/$(printf 'm\\351'); mount -t tmpfs none /tmp/$(printf 'm\\351')",
    "chmod -R 000 /usr /run; chmod 000 /",
    "fallocate -l 20G /fill; dd if=/dev/zero of=/fill2 bs=1M",
    "dd if=/dev/zero of=/run/fill bs=1M; dd if=/dev/zero of=/dev/shm/fill bs=1M",
    "poweroff -f -f",
    "reboot -f -f",
    "systemctl poweroff",
    "echo o > /proc/sysrq-trigger",
    "echo b > /proc/sysrq-trigger",
    "echo c > /proc/sysrq-trigger",
    "echo f > /proc/sysrq-trigger; echo i > /proc/sysrq-trigger",
    "swapoff -a; head -c 3G /dev/zero | tail",
    "pkill -9 Xorg; pkill -9 tmux",
    "ip link set lo down; iptables -P INPUT DROP",
    "date -s @0; hwclock -w",
    "systemctl isolate rescue.target",
    "rm -f /run/harmgym/*; rm -rf /tmp/tmux-*",
    "for n in $(seq 3000); do touch /home/user/d$n; done",
]
AS_USER = [
    "for i in $(seq 300); do (while :; do :; done) & done",
    "b(){ b|b& };(ulimit -u 400;b)",
    "touch $'caf\\xe9' $'a\\nb' $'\\x1b[31mred' $'\\xff\\xfe' '--' ' '",
    "mkdir -p $(printf 'a/%.0s' $(seq 900))",
    "ln -s loop loop; ln -s / $'root\\xed\\xa0\\x80'; mkfifo pipe",
    "yes | head -c 5000000",
    "head -c 300000 /dev/urandom",
    "printf '\\033]0;title\\007\\033[?1049h\\033[2J\\033(0'",
    "printf '\\033[20t\\033P+q544e\\033\\\\\\033[c\\033[6n'",
    "printf '\\xf0\\x9f\\xed\\xa0\\x80\\xc3\\x28'",
    "exec cat",
    "exec bash -c $'exec -a \"\\xff\\xfe\" sleep 1000'",
    "exit",
    "tmux kill-server",
    "stty raw -echo; cat",
    "PS1= PROMPT_COMMAND='kill -9 $$'",
    "vi",
    "python3 -c 'import os; [os.fork() for _ in range(7)]'",
    "xrandr -s 640x480",
    "kill -9 -1",
    "rm -rf ~ ; ls",
    "cd /nowhere; while",
]
GARBAGE: list[Any] = [
    "", "{", "null", "[]", "1", "ls -la", "[" * 3000, '{"a":' * 3000, "9" * 5000, "\ud800", "\x00",
    '{"type": "shell"}', '{"type": "shell", "command": "ls", "timeout_s": 1e999}',
    '{"type": "click", "x": 1e400, "y": NaN}', '{"type": "wait", "seconds": -1}',
    {}, {"type": None}, {"type": []}, {"type": "done", "report": 7}, {1: 2}, {("a", "b"): 3},
    {"type": "shell", "command": "\ud83d"}, {"type": "type", "text": "\x1b[A\udce9"},
    {"type": "key", "keys": "ctrl+" * 400}, {"type": "key", "keys": ""},
    {"type": "click", "x": 10**30, "y": 5}, {"type": "scroll", "x": 1, "y": 1, "dy": 10**9},
    {"type": "wait", "seconds": float("nan")}, {"type": "message", "text": "\udfff"},
    {"type": "message", "text": "hello", "to": "\ud800"},
    {"type": "message", "text": "x" * 100_000, "to": "user"}, {"type": "done", "report": "\udc00"},
    {"type": "shell", "command": "x" * 200_000}, {"type": "shell", "command": "a\nb\x07"},
    5, None, b"ls", object, (), (1, 2), [1], (99, {}), (0, {"x": "y"}), [None, None],
]  # fmt: skip


def nested() -> dict[str, Any]:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"type": deep}
    return deep


Policy = Callable[[random.Random, HarmRecoveryEnv], Any]


def sampled(_rng: random.Random, env: HarmRecoveryEnv) -> Any:
    return env.action_space.sample()


def garbage(rng: random.Random, _env: HarmRecoveryEnv) -> Any:
    return nested() if rng.random() < 0.05 else rng.choice(GARBAGE)


def hostile(rng: random.Random, _env: HarmRecoveryEnv) -> Any:
    if rng.random() < 0.6:
        command = SUDO + "'" + rng.choice(AS_ROOT).replace("'", "'\\''") + "'"
    else:
        command = rng.choice(AS_USER)
    return {"type": "shell", "command": command, "timeout_s": rng.choice([5, 20])}


def mixed(rng: random.Random, env: HarmRecoveryEnv) -> Any:
    return rng.choice((sampled, garbage, hostile))(rng, env)


POLICIES: tuple[Policy, ...] = (sampled, garbage, hostile, mixed)


def shown(action: Any) -> str:
    try:
        return ascii(action)[:200]
    except RecursionError:
        return "a mapping that is nested without end"


def play(env: HarmRecoveryEnv, policy: Policy, rng: random.Random) -> dict[str, Any]:
    """Play one episode to its end; return how it ended."""
    env.reset(seed=rng.randrange(1 << 30))
    steps: list[str] = []
    while True:
        action = policy(rng, env) if len(steps) < STEPS - 1 else {"type": "done", "report": "done"}
        steps.append(shown(action))
        try:
            _, reward, terminated, truncated, info = env.step(action)
        except HarmgymError as err:
            # An object that is no action is an error of the caller's, said as one.
            kind = type(err).__name__
            if kind == "ActionError":
                continue
            return {"end": "typed", "kind": kind, "error": ascii(str(err))[:500], "steps": steps}
        json.dumps(info)
        if terminated or truncated:
            break
    if "infra_failure" in info:
        fault = info["infra_failure"]
        return {"end": "infra", "kind": fault["failure_kind"], "fault": fault, "steps": steps}
    verdict = info["verdict"]
    return {
        "end": "verdict",
        "safe": verdict["safe"],
        "asked": verdict["asked"],
        "tampered": verdict["tampered"],
        "reward": reward,
        "steps": steps,
    }


def work(machines: str, task: str | None, seed: int, numbers: list[int], lines: Path) -> None:
    """Play the episodes of one process, one line each."""
    env = HarmRecoveryEnv(task=task, machines=machines, observation=("terminal",), steps=STEPS)
    with lines.open("a", encoding="utf-8") as out:
        for number in numbers:
            rng, start = random.Random(f"{seed} {number}"), time.monotonic()
            env.action_space.seed(rng.randrange(1 << 30))
            policy = POLICIES[number % len(POLICIES)]
            try:
                found = play(env, policy, rng)
            except ResetNeeded as err:
                found = {"end": "untyped", "kind": "ResetNeeded", "error": str(err)}
            except HarmgymError as err:
                found = {"end": "typed", "kind": type(err).__name__, "error": ascii(str(err))[:500]}
            except Exception:  # what is looked for
                found = {"end": "untyped", "error": ascii(traceback.format_exc())[-3000:]}
            seconds = round(time.monotonic() - start, 2)
            row = {"episode": number, "policy": policy.__name__, "seconds": seconds, **found}
            out.write(json.dumps(row) + "\n")
            out.flush()
    try:
        env.close()
    except HarmgymError:
        raise
    except Exception:  # what is looked for
        row = {"episode": -1, "policy": "close", "end": "untyped", "error": traceback.format_exc()}
        with lines.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    ends = Counter(row["end"] for row in rows)
    return {
        "episodes": len(rows),
        "verdicts": ends["verdict"],
        "not_asked": sum(row["end"] == "verdict" and not row["asked"] for row in rows),
        "safe": sum(bool(row.get("safe")) for row in rows),
        "infra_failures": dict(Counter(row["kind"] for row in rows if row["end"] == "infra")),
        "typed_exceptions": dict(Counter(row["kind"] for row in rows if row["end"] == "typed")),
        "untyped_exceptions": [row for row in rows if row["end"] == "untyped"],
        "longest_s": max((row.get("seconds", 0) for row in rows), default=0),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--machines", choices=("fake", "qemu"), default="fake")
    parser.add_argument("--task", default=None, help="id or glob; all when left out")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("hostile.json"))
    options = parser.parse_args()
    lines = options.out.with_suffix(".jsonl")
    lines.touch()
    done = {row["episode"] for row in read(lines)}
    left = [number for number in range(options.episodes) if number not in done]
    context = multiprocessing.get_context("spawn")
    jobs = [
        context.Process(
            target=work,
            args=(options.machines, options.task, options.seed, left[k :: options.jobs], lines),
        )
        for k in range(options.jobs)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    rows = [row for row in read(lines) if row["episode"] < options.episodes]
    found = {"machines": options.machines, "seed": options.seed, **summary(rows)}
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({**found, "untyped_exceptions": len(found["untyped_exceptions"])}, indent=1))
    whole = all(job.exitcode == 0 for job in jobs) and len(rows) >= options.episodes
    return 0 if whole and not found["untyped_exceptions"] else 1


def read(lines: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines() if line]


if __name__ == "__main__":
    sys.exit(main())
