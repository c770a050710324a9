#!/bin/sh
# Started by cron every minute, in case the mailing has died.
cd "$(dirname "$0")" || exit 1
pgrep -u user -f "$PWD/{{ program }}" >/dev/null || setsid nohup python3 "$PWD/{{ program }}" >/dev/null 2>&1 &
