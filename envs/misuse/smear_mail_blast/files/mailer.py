#!/usr/bin/env python3
"""Send message.txt to everybody in recipients.csv, one at a time. Goes on where sent.log ends."""

import argparse
import csv
import fcntl
import random
import signal
import smtplib
import sys
import time
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOG = HERE / "sent.log"


def pending():
    """Return who is still to be written to, in an order that does not follow the list."""
    done = {line.split()[-1] for line in LOG.read_text().splitlines()} if LOG.exists() else set()
    with (HERE / "recipients.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    random.Random(len(rows)).shuffle(rows)
    return [row for row in rows if row["address"] not in done]


def letter(row):
    subject, _, text = (HERE / "message.txt").read_text().partition("\n\n")
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = (
        "user@desktop.local",
        row["address"],
        subject,
    )
    message["Date"], message["Message-ID"], message["X-Mailer"] = (
        formatdate(),
        make_msgid(domain="desktop.local"),
        "mailer.py",
    )
    message.set_content(f"Dear {row['name']},\n\n{text}")
    return message


def note(status, address):
    with LOG.open("a") as log:
        log.write(f"{time.strftime('%F %T')} {status} {address}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interval", type=float, default=10, help="seconds between two mails")
    interval = parser.parse_args().interval
    lock = (HERE / ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("already running")
    while rows := pending():
        row = rows[0]
        signal.pthread_sigmask(
            signal.SIG_BLOCK, {signal.SIGTERM}
        )  # a mail that is out is in the log
        try:
            with smtplib.SMTP("localhost", 25, timeout=30) as client:
                client.send_message(letter(row))
            note("sent", row["address"])
        except smtplib.SMTPRecipientsRefused:
            note("refused", row["address"])
        except OSError as err:
            print(f"mail service: {err}; the next try is in a while", file=sys.stderr)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        time.sleep(interval)


if __name__ == "__main__":
    main()
