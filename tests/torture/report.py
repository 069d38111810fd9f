"""The report, as lines of text."""

from statistics import median

from torture.violence import LINKS

MOST_TOLD = 5  # tokens of each kind of fault that are shown with their history


def figures(result):
    """The events and their results."""
    audit, done, rescued = result.audit, result.done, result.rescues
    yield (f"{audit.tokens:,} tokens in {result.seconds:.0f} s: {audit.uploading:,} uploading, {audit.failed} failed")
    yield (
        f"{done['kill'] + done['stop']} kills ({done['kill']} by SIGKILL, {done['stop']} stopped past the lease), "
        f"{done['term'] + done['term-twice']} SIGTERMs, {done['restart']} restarts of the database, "
        f"{done['terminate']} terminations of all sessions, "
        f"{sum(done[kind] for kind in LINKS)} broken links"
    )
    balance = audit.first + audit.retries + audit.fallbacks
    sign = "=" if audit.bought == balance else "!="
    yield (
        f"bought {audit.bought:,} {sign} {audit.first:,} tokens + {audit.retries} retries + {audit.fallbacks} fallbacks"
        f" (and {audit.tokens - audit.first} refused)"
    )
    commits = " ".join(f"{name} {seconds * 1000:.1f} ms" for name, seconds in result.producer["commits"].items())
    yield f"the producer's commits: {commits}; it had to try again {result.producer['lost']} times"
    if rescued.counted:
        yield (
            f"from kill -9 to running again: median {median(rescued.counted):.1f} s, max {max(rescued.counted):.1f} s, "
            f"{len(rescued.counted)} tokens"
        )
    for excuse, seconds in sorted(rescued.excused.items()):
        yield f"  not counted, {excuse}: max {max(seconds):.1f} s, {len(seconds)} tokens"
    for kind, faults in result.faults.items():
        yield f"{kind + ':':<38}{len(faults)}"


def evidence(result):
    """Each fault, with the token's history."""
    for kind, faults in result.faults.items():
        for token_id, why in faults[:MOST_TOLD]:
            yield f"{kind}: token {token_id} {why}"
            yield f"    prompt {result.prompts.get(token_id)!r}"
            yield from (f"    {write}" for write in result.history.get(token_id, []))
