"""Names of the NOTIFY channels of a tokens table."""

import hashlib

LONGEST = 63  # bytes; PostgreSQL's limit for a channel


def channel(schema: str, table: str, purpose: str) -> str:
    """`<schema>_<table>_<purpose>`; if that is longer than 63 bytes, an MD5 in hexadecimal replaces schema and table.

    The name holds the schema, because a channel is global in its database. The migrations hand the result to the
    triggers as an argument, so this is the only place that knows the rule.
    """
    front = f"{schema}_{table}"
    name = f"{front}_{purpose}"
    if len(name.encode()) <= LONGEST:
        return name
    digest = hashlib.md5(front.encode(), usedforsecurity=False).hexdigest()
    return f"reactor_{digest}_{purpose}"
