"""Every fault at every place, with every behaviour of the provider; and how each case may end."""

from dataclasses import dataclass

from reactor.failpoints import NAMES

FALLBACK = "a calm sea"
# What the provider does to the first prediction or request, as a directive of the sandbox.
BEHAVIOURS = {
    "success": "",
    "failure": "failed text=E9828 times=1",
    "rejection": "nsfw times=1",
    "429": "429 retry_after=0.2 times=1",
    "reset": "reset after=true times=1",
}
# The worker is killed; raises an error that no code expects; is frozen until a second worker has finished the token; or
# is frozen until the second worker is about to settle the token.
ACTIONS = ("exit", "raise", "pause", "overtaken")
STATEMENTS = ("claim", "record", "settle", "renew", "rescue", "censor", "abandoned", "next_due", "ring")
# Failpoints of the bell, left out here because they belong to no token: tokens go on meanwhile. See test_bell.py.
OF_THE_BELL = {"before_watch", "on_watch"}
# Where an error fails one token and the worker goes on.
IN_AN_ATTEMPT = {
    "before_look",
    "before_create",
    "before_send",
    "request_sent",
    "created",
    "result_seen",
    "before_censor",
    "censored",
}
# Where the worker holds no token (not yet, or no longer) that another worker could take from it.
HOLDS_NOTHING = {"listening", "before_rescue", "settled", "released"}
# These faults are armed only once the purchase is recorded, because a renewal could come at any moment of an attempt.
OF_A_RELEASE = {"before_release", "released"}
OF_A_RENEWAL = {"before_renew", "renewed", "renew"}
OF_A_RESCUE = {"before_rescue", "rescued", "rescue", "abandoned"}
# Where no prediction may end before the worker has met the fault.
WHILE_IT_RUNS = {"before_record", "recorded", "record"} | OF_A_RELEASE | OF_A_RENEWAL


@dataclass(frozen=True)
class Expected:
    """How a case must end."""

    status: str = "uploading"
    attempts: int = 0
    bought: int = 1
    error: str | None = None


@dataclass(frozen=True)
class Case:
    """One fault, once: `place` is a failpoint or, if an answer is lost, the statement."""

    place: str
    action: str
    behaviour: str

    @property
    def name(self):
        return f"{self.place}-{self.action}-{self.behaviour}"

    @property
    def prompt(self):
        return f"a lighthouse [sandbox: {BEHAVIOURS[self.behaviour]}]"

    @property
    def stuck(self):
        """Whether predictions stay queued until the worker has met the fault."""
        return self.place in WHILE_IT_RUNS

    @property
    def abandoned(self):
        """Whether a dead worker holds the token at the start."""
        return self.place in OF_A_RESCUE

    @property
    def possible(self):
        match self.place:
            case "before_censor" | "censored" | "censor":
                return self.behaviour == "rejection"
            case "before_look":
                return self.behaviour == "reset"  # after any other answer the worker knows what was bought
            case "request_sent":
                return self.behaviour != "reset"  # no answer arrives: the worker comes to before_look instead
            case _:
                return True

    @property
    def expected(self):
        undisturbed = {
            "success": Expected(),
            "failure": Expected(attempts=1, bought=2),
            "rejection": Expected(attempts=1, bought=2),
            "429": Expected(),
            "reset": Expected(),
        }[self.behaviour]
        if self.action != "raise" or self.place not in IN_AN_ATTEMPT:
            return undisturbed
        # A bug of ours fails the token at once, with the attempts and purchases made until then.
        attempts, bought = {
            "before_create": (0, 0),
            "before_send": (0, 0),
            "request_sent": (0, 0 if self.behaviour == "429" else 1),
            "created": (0, 1),
            "before_look": (0, 1),
            "result_seen": (undisturbed.attempts, undisturbed.bought),
            "before_censor": (0, 1),
            "censored": (1, 1),
        }[self.place]
        return Expected("failed", attempts, bought, "Internal error: InjectedError")


CASES = [
    case
    for place, action in [(name, action) for name in sorted(NAMES - OF_THE_BELL) for action in ACTIONS]
    + [(statement, "lost") for statement in STATEMENTS]
    for behaviour in BEHAVIOURS
    if (case := Case(place, action, behaviour)).possible
]
