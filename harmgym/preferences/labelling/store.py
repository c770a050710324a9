"""The answers: one SQLite file, write-ahead log, every answer one synced transaction.

An answer that was acknowledged survives kill -9 and a power cut. Nothing is deleted: an answer
taken back is marked.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from harmgym.errors import JudgmentError
from harmgym.preferences.judgments import Side
from harmgym.preferences.labelling.items import Pair
from harmgym.records import Record
from harmgym.tasks.rubric import Attributes

FILE = "labels.sqlite"
APPLICATION_ID = 0x68674C62  # "hgLb", so that another program's file is known as such
FORMAT = 1
BUSY_S = 10.0
MAX_NAME, MAX_REASON = 60, 4000
DAY_S = 86400.0

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE items (key TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE annotators (name TEXT PRIMARY KEY, since REAL NOT NULL);
CREATE TABLE answers (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL,
    item TEXT NOT NULL REFERENCES items(key), annotator TEXT NOT NULL REFERENCES annotators(name),
    choice TEXT NOT NULL CHECK (choice IN ('a', 'b')),
    shown_left TEXT NOT NULL CHECK (shown_left IN ('a', 'b')),
    time_s REAL NOT NULL, reason TEXT NOT NULL, ratings_a TEXT, ratings_b TEXT,
    at REAL NOT NULL, undone REAL
);
CREATE UNIQUE INDEX one_answer ON answers (item, annotator) WHERE undone IS NULL;
CREATE TABLE shown (annotator TEXT PRIMARY KEY, item TEXT NOT NULL, at REAL NOT NULL);
"""


class Answer(Record):
    """What the page sends: `id` is drawn by the page, so that an answer sent twice counts once."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f-]{16,64}$")]
    item: Annotated[str, Field(pattern=r"^[0-9a-f]{24}$")]
    annotator: Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
    choice: Side
    time_s: Annotated[float, Field(ge=0, le=DAY_S, allow_inf_nan=False)]
    reason: Annotated[str, Field(max_length=MAX_REASON)] = ""
    ratings_a: Attributes | None = None
    ratings_b: Attributes | None = None

    @field_validator("reason")
    @classmethod
    def _encodable(cls, reason: str) -> str:
        reason.encode("utf-8")  # a lone surrogate is no text; UnicodeEncodeError is a ValueError
        return reason.strip()

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.ratings_a is None) != (self.ratings_b is None):
            raise ValueError("needed ratings of both recoveries or of neither")
        return self


@dataclass(frozen=True)
class Row:
    """A kept answer with the pair it answers; `undone` where it was taken back."""

    pair: Pair
    answer: Answer
    shown_left: Side
    undone: bool


class Store:
    """One open file of answers; safe to share between threads."""

    def __init__(self, path: Path, create: bool = True) -> None:
        self.path = path
        self._lock = threading.Lock()
        _refuse_foreign(path, create)
        try:
            self._db = sqlite3.connect(
                path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._prepare()
        except sqlite3.Error as err:
            raise JudgmentError(
                f"{path}: cannot be used as a store of labels ({err}); restore it or move it away"
            ) from None
        except JudgmentError:
            self._db.close()
            raise
        self.seed = self._one("SELECT value FROM meta WHERE key = 'seed'")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; answers are already on disk."""
        with self._lock:
            self._db.close()

    def add_items(self, pairs: Iterable[Pair]) -> None:
        """Keep the pairs, so that an answer can be exported whatever becomes of the files it came
        from.
        """
        with self._transaction() as db:
            rows = [(pair.key, pair.model_dump_json()) for pair in pairs]
            db.executemany("INSERT INTO items VALUES (?, ?) ON CONFLICT (key) DO NOTHING", rows)

    def register(self, name: str) -> None:
        """Note that an annotator is here; to come back is no error."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO annotators VALUES (?, ?) ON CONFLICT (name) DO NOTHING",
                (name, time.time()),
            )

    def annotators(self) -> list[tuple[str, int]]:
        """Names and how many answers each gave, in order of arrival."""
        rows = self._all(
            "SELECT name, count(answers.id) FROM annotators LEFT JOIN answers ON annotator = "
            "name AND undone IS NULL "
            "GROUP BY name ORDER BY since"
        )
        return [(str(name), int(count)) for name, count in rows]

    def answered(self) -> dict[str, set[str]]:
        """Item key -> who answered it."""
        found: dict[str, set[str]] = {}
        for item, name in self._all("SELECT item, annotator FROM answers WHERE undone IS NULL"):
            found.setdefault(item, set()).add(name)
        return found

    def record(self, answer: Answer, shown_left: Side) -> None:
        """Keep an answer; on return it is on disk. The same answer sent again is kept once.

        Raises: JudgmentError when this person answered the pair before, or is not known.
        """
        rating_a, rating_b = (
            r.model_dump_json() if r else None for r in (answer.ratings_a, answer.ratings_b)
        )
        values = (
            answer.id,
            answer.item,
            answer.annotator,
            answer.choice,
            shown_left,
            answer.time_s,
            answer.reason,
        )
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM answers WHERE id = ?", (answer.id,)).fetchone():
                return
            try:
                db.execute(
                    "INSERT INTO answers (id, item, annotator, choice, shown_left, time_s, "
                    "reason, ratings_a, ratings_b, at) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (*values, rating_a, rating_b, time.time()),
                )
            except sqlite3.IntegrityError:
                raise JudgmentError(
                    f"{answer.annotator!r} is not known here or has answered this pair before"
                ) from None

    def undo(self, name: str) -> Answer | None:
        """Take back the last answer of a person and return it; None when there is none."""
        with self._transaction() as db:
            row = db.execute(
                f"SELECT {_COLUMNS} FROM answers WHERE annotator = ? AND undone IS NULL ORDER BY "
                "number DESC LIMIT 1",
                (name,),
            ).fetchone()
            if row is None:
                return None
            answer = _answer(row)
            db.execute("UPDATE answers SET undone = ? WHERE id = ?", (time.time(), answer.id))
            db.execute(
                "INSERT OR REPLACE INTO shown VALUES (?, ?, ?)", (name, answer.item, time.time())
            )
            return answer

    def show(self, name: str, item: str) -> None:
        """Note what a person has before them, so that nobody else is given it meanwhile."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO shown VALUES (?, ?, ?)", (name, item, time.time()))

    def shown(self) -> dict[str, tuple[str, float]]:
        """Annotator -> (item key, Unix time it was shown)."""
        return {
            name: (item, float(at))
            for name, item, at in self._all("SELECT annotator, item, at FROM shown")
        }

    def rows(self) -> Iterator[Row]:
        """Every answer in the order given, those taken back included."""
        query = (
            f"SELECT body, shown_left, undone, {_COLUMNS} FROM answers "
            "JOIN items ON key = item ORDER BY number"
        )
        for body, left, undone, *rest in self._all(query):
            side: Side = "a" if left == "a" else "b"
            yield Row(
                Pair.model_validate_json(body), _answer(tuple(rest)), side, undone is not None
            )

    def _prepare(self) -> None:
        if self._tables():
            self._check()  # before anything is changed: the file may be another program's
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        with self._transaction() as db:
            if self._tables() == 0:
                for statement in _TABLES.split(";"):
                    db.execute(statement)
                db.execute("INSERT INTO meta VALUES ('seed', ?)", (secrets.token_hex(8),))
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {FORMAT}")

    def _check(self) -> None:
        owner, version = self._one("PRAGMA application_id"), self._one("PRAGMA user_version")
        if int(owner) != APPLICATION_ID:
            raise JudgmentError(
                f"{self.path}: needed a store of labels, found another program's SQLite file; "
                "move it away"
            )
        if int(version) != FORMAT:
            raise JudgmentError(
                f"{self.path}: needed labels of format {FORMAT}, found format {version}"
            )
        state = self._one("PRAGMA quick_check")
        if state != "ok":
            raise JudgmentError(
                f"{self.path}: the store of labels is damaged ({state:.120}); restore a copy"
            )

    def _tables(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])

    def _one(self, query: str) -> str:
        return str(self._all(query)[0][0])

    def _all(self, query: str) -> list[tuple[str, ...]]:
        with self._lock:
            return self._db.execute(query).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")


_COLUMNS = "id, item, annotator, choice, time_s, reason, ratings_a, ratings_b"
_HEADER = b"SQLite format 3\0"


def _answer(row: tuple[str, ...]) -> Answer:
    data = dict(zip(_COLUMNS.split(", "), row, strict=True))
    ratings = {key: json.loads(data[key]) for key in ("ratings_a", "ratings_b") if data[key]}
    return Answer.model_validate({**data, "ratings_a": None, "ratings_b": None, **ratings})


def _refuse_foreign(path: Path, create: bool) -> None:
    """Refuse a file that SQLite would overwrite or misread."""
    if not path.exists():
        if not create:
            raise JudgmentError(
                f"{path}: no answers here yet; collect some with: harmgym label {path.parent}"
            )
        return
    with path.open("rb") as file:
        head = file.read(len(_HEADER))
    if head not in (b"", _HEADER):
        raise JudgmentError(
            f"{path}: needed a store of labels, found a file that is not SQLite; move it away"
        )
