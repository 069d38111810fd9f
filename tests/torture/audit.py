"""Joins the tokens, the history of every write to them and the provider's ledger, and lists the faults."""

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise

from torture.plan import FALLBACK

NO_IMAGE = {"failed", "canceled", "aborted"}
FINAL = {"uploading", "failed"}
KINDS = ("lost", "settled twice", "illegal transitions", "bought twice", "failed wrongly", "fences broken")


@dataclass(slots=True)
class Audit:
    """The sums, and for each kind of fault the tokens that have it, each with an explanation."""

    tokens: int = 0
    uploading: int = 0
    failed: int = 0
    bought: int = 0
    first: int = 0
    retries: int = 0
    fallbacks: int = 0
    faults: dict[str, list[tuple[int, str]]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def blame(self, kind, token_id, why):
        self.faults[kind].append((token_id, why))


def audit(tokens, history, ledger, *, prompts, doomed, keys):
    """Audit a torture. `keys`: process number → the worker's key."""
    found = Audit(tokens=len(prompts), bought=len(ledger))
    purchases = _purchases(ledger, history, prompts, found)
    for token_id in prompts:
        row = tokens.get(token_id)
        if row is None or row["status"] not in FINAL or (row["status"] == "failed" and not row["generation_error"]):
            found.blame("lost", token_id, "is not there" if row is None else f"is {row['status']}")
            continue
        found.uploading += row["status"] == "uploading"
        found.failed += row["status"] == "failed"
        if (row["status"] == "failed") != (token_id in doomed):
            found.blame("failed wrongly", token_id, f"is {row['status']}: {row['generation_error']}")
        _judge_writes(history[token_id], keys, found)
        _judge_purchases(row, purchases[token_id], found)
    return found


def _purchases(ledger, history, prompts, found):
    """Each token's purchases, in order. Tokens share the fallback prompt, so there the seed identifies the token."""
    by_prompt = {prompt: token_id for token_id, prompt in prompts.items()}
    by_seed = {write.new_seed: token_id for token_id, writes in history.items() for write in writes if write.new_seed}
    bought = defaultdict(list)
    for entry in sorted(ledger, key=lambda entry: entry["requested_at"]):
        token_id = by_seed.get(entry["seed"]) if entry["prompt"] == FALLBACK else by_prompt.get(entry["prompt"])
        if token_id is None:
            found.blame("bought twice", 0, f"nobody's: {entry}")
        bought[token_id].append(entry)
    return bought


def _judge_writes(writes, keys, found):
    endings = [write for write in writes if write.old_status == "generating" and write.new_status in FINAL]
    if len(endings) != 1:
        found.blame("settled twice", writes[0].token_id if writes else 0, f"settled {len(endings)} times")
    for write in writes:
        if not legal(write):
            found.blame("illegal transitions", write.token_id, str(write))
        if not _fenced(write, keys):
            found.blame("fences broken", write.token_id, str(write))


def legal(write):
    """Whether the state machine allows the transition."""
    same_epoch, next_epoch = write.new_epoch == write.old_epoch, write.new_epoch == write.old_epoch + 1
    held, let_go = write.new_worker is not None, write.new_worker is None
    match write.old_status, write.new_status:
        case "detected", "generating":
            return next_epoch and held
        case "generating", "generating":
            return _rescued(write) if next_epoch else same_epoch and _noted(write)
        case "generating", "uploading":
            return same_epoch and let_go and write.new_prediction is not None
        case "generating", "failed" if next_epoch:
            return let_go and (write.error or "").startswith("worker died")
        case "generating", "failed" | "detected":
            return same_epoch and let_go
        case _:
            return False


def _rescued(write):
    """Whether another holder took the token over with seed and prediction unchanged."""
    as_it_was = (write.old_seed, write.old_prediction) == (write.new_seed, write.new_prediction)
    return write.new_worker is not None and as_it_was


def _noted(write):
    """Whether the holder recorded a purchase, or switched to the fallback prompt."""
    bought = write.old_prediction is None and write.new_seed == write.old_seed
    turned = write.new_prediction is None and write.new_seed != write.old_seed
    return write.new_worker == write.old_worker and (bought or turned)


def _fenced(write, keys):
    """Whether the writing process held the token, or took it with this write."""
    if write.new_epoch != write.old_epoch:
        return write.new_worker is None or abs(write.new_worker) == keys.get(write.process)
    return write.old_worker is not None and abs(write.old_worker) == keys.get(write.process)


def _judge_purchases(row, bought, found):
    """A purchase after the first is allowed only if the one before it has ended without an image."""
    found.first += bool(bought)
    for earlier, later in pairwise(bought):
        ended_at = earlier["finished_at"]
        if earlier["status"] not in NO_IMAGE or ended_at is None or ended_at > later["requested_at"]:
            found.blame("bought twice", row["token_id"], f"{_told(later)} after {_told(earlier)}")
        elif later["prompt"] == FALLBACK != earlier["prompt"]:
            found.fallbacks += 1
        else:
            found.retries += 1
    images = [entry["id"] for entry in bought if entry["status"] not in NO_IMAGE]
    if row["status"] == "failed" and images:
        found.blame("failed wrongly", row["token_id"], f"though {images} has an image")
    if row["status"] == "uploading" and not (
        bought and bought[-1]["id"] == row["generation_prediction_id"] and bought[-1]["id"] in row["image_url"]
    ):
        found.blame("bought twice", row["token_id"], f"{row['image_url']} is not what was bought last")


def _told(entry):
    return f"{entry['id']} {entry['status']} of {entry['requested_at']:.3f} with seed {entry['seed']}"
