"""Names of the channels that a tokens table rings."""

import hashlib

LONGEST = 63  # bytes; PostgreSQL's limit for a channel


def channel(schema: str, table: str, what: str) -> str:
    """`<schema>_<table>_<what>`; where that is longer than 63 bytes, its MD5 in hexadecimal stands for the front.

    The name holds the schema, because a channel is global in its database. The migrations hand the result to the
    triggers as an argument, so this is the only place that knows the rule.
    """
    front = f"{schema}_{table}"
    name = f"{front}_{what}"
    if len(name.encode()) <= LONGEST:
        return name
    digest = hashlib.md5(front.encode(), usedforsecurity=False).hexdigest()
    return f"reactor_{digest}_{what}"
