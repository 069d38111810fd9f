"""One wording for a database that cannot be reached, whichever command says it."""

import re


def unreachable(error: BaseException) -> str:
    """The line for the driver's error; not redacted."""
    said = re.sub(r"^\[Errno -?\d+\] ", "", str(error)).split("\n")[0]
    if isinstance(error, TimeoutError) and not said:
        said = "no answer"
    return f"cannot reach the database: {said or type(error).__name__}"
