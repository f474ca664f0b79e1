"""The schema of the journal's file, and the statements that write it.

A group of rows goes in as one statement, which runs without Python's lock: a statement per row
would hand that lock back and forth, and cost the event loop more than everything else that the
journal does.
"""

from __future__ import annotations

from functools import cache

from fluxflex._aio.entry import COLUMNS

APPLICATION_ID = 0x666C7578  # "flux"
# From each version to the next; the number of those applied is the file's `user_version`.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
    CREATE TABLE items (
        id INTEGER PRIMARY KEY,
        state TEXT,
        run TEXT,
        number INTEGER,
        digest TEXT,
        task_id TEXT,
        attempts INTEGER DEFAULT 0,
        sent_at REAL,
        accepted_at REAL,
        ended_at REAL,
        elapsed REAL,
        spent TEXT,
        reserved TEXT,
        collected INTEGER DEFAULT 0,
        replaced INTEGER DEFAULT 0,
        path TEXT,
        request TEXT,
        result TEXT,
        error TEXT,
        source TEXT,
        noted_at REAL
    );
    CREATE INDEX items_of_runs ON items (run, digest, number) WHERE run IS NOT NULL;
    CREATE UNIQUE INDEX items_adopted ON items (source) WHERE source IS NOT NULL;
    """,
)
PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "wal_autocheckpoint=256",
    "secure_delete=ON",
)

WRITTEN = (*COLUMNS, "source", "noted_at")
_NAMES = ", ".join(WRITTEN)
_ROW = f"({', '.join('?' * len(WRITTEN))})"
_CHANGES = ", ".join(f"{name} = coalesce(excluded.{name}, {name})" for name in WRITTEN[1:])
# What only adds to an entry makes none: the entry may have been removed meanwhile.
_STANDS = "column2 IS NOT NULL OR column1 IN (SELECT id FROM items)"

# Rows in one statement; SQLite takes 32,766 values.
MOST_ROWS = 512


@cache
def upsert(rows: int) -> str:
    """Return the statement that writes so many rows; one statement is one transaction."""
    return (
        f"INSERT INTO items ({_NAMES}) SELECT * FROM (VALUES {_values(rows)}) "  # noqa: S608 - our own names
        f"WHERE {_STANDS} ON CONFLICT (id) DO UPDATE SET {_CHANGES}"
    )


@cache
def take_over(rows: int) -> str:
    """Return the statement that writes so many rows of another file."""
    return f"INSERT OR IGNORE INTO items ({_NAMES}) VALUES {_values(rows)}"  # noqa: S608 - our own names


def _values(rows: int) -> str:
    return ", ".join([_ROW] * rows)


# The money of entries that were removed, and the last number of each run, are facts.
FORGOTTEN = "forgotten"
LAST_NUMBER = "last number of "
LAST_NUMBERS = (
    f"INSERT OR REPLACE INTO facts SELECT '{LAST_NUMBER}' || run, max(max(number), "  # noqa: S608 - our own names
    f"coalesce((SELECT CAST(value AS INTEGER) FROM facts WHERE name = '{LAST_NUMBER}' || run), 0)) "
    "FROM items WHERE run IS NOT NULL GROUP BY run"
)
LEFT_UNCERTAIN = (
    "UPDATE items SET state = 'UNCERTAIN', error = json_set(?, '$.sent_at', sent_at) "
    "WHERE state = 'SENDING'"
)
# The fact that names a file in the tokens of callbacks.
HOME = "home"
