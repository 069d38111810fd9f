"""Names as SQL takes them, and those of the indexes and constraints that the migrations make on a tokens table."""

import hashlib
import re

INDEXES = ("fresh", "retries", "held", "uploads", "failed")
IMAGES = "images"  # the index that --down builds for itself
_OURS = re.compile(rf"_generation_({'|'.join((*INDEXES, IMAGES))})2?$")
LONGEST_FRONT = 36  # bytes; the longest end of a name has 27


def front(table: str) -> str:
    """How the names begin: with the table's, unless they would pass the 63 bytes that PostgreSQL allows."""
    if len(table.encode()) <= LONGEST_FRONT:
        return table
    return f"reactor_{hashlib.md5(table.encode(), usedforsecurity=False).hexdigest()[:12]}"


def index_name(table: str, index: str) -> str:
    """The name of one of our indexes, without its schema."""
    return f"{front(table)}_generation_{index}"


def is_ours(name: str) -> bool:
    """Whether an index has a name of ours, or of one that is built to replace it; the table may have been renamed."""
    return _OURS.search(name) is not None


def quoted(*identifiers: str) -> str:
    """A name, or names joined by dots, as SQL takes them."""
    return ".".join('"' + identifier.replace('"', '""') + '"' for identifier in identifiers)


def literal(words: str) -> str:
    """A text as SQL takes it."""
    return "'" + words.replace("'", "''") + "'"
