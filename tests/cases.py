"""Every fault at every place, whatever the provider does; and what each case may come to."""

from dataclasses import dataclass

from reactor.failpoints import NAMES

FALLBACK = "a calm sea"
# What the provider does to the first prediction or request, in the sandbox's words.
BEHAVIOURS = {
    "success": "",
    "failure": "failed text=E9828 times=1",
    "rejection": "nsfw times=1",
    "429": "429 retry_after=0.2 times=1",
    "reset": "reset after=true times=1",
}
# Killed; an error that nobody expects; frozen until another worker has finished, or only until it is about to.
ACTIONS = ("exit", "raise", "pause", "overtaken")
STATEMENTS = ("claim", "record", "settle", "renew", "rescue", "censor", "abandoned", "next_due", "ring")
# Of the bell, which has no token: whatever a token is at just then goes on beside it. See test_bell.py.
OF_THE_BELL = {"before_watch", "on_watch"}
# Where an error is one token's, and not the worker's end.
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
# Where the worker has nothing yet, or nothing any more, that another could take from it.
HOLDS_NOTHING = {"listening", "before_rescue", "settled", "released"}
# These are waited for only once the purchase is recorded: a renewal could come at any moment of an attempt.
OF_A_RELEASE = {"before_release", "released"}
OF_A_RENEWAL = {"before_renew", "renewed", "renew"}
OF_A_RESCUE = {"before_rescue", "rescued", "rescue", "abandoned"}
# Where nothing that is bought may end before the fault has been met.
WHILE_IT_RUNS = {"before_record", "recorded", "record"} | OF_A_RELEASE | OF_A_RENEWAL


@dataclass(frozen=True)
class Expected:
    """The legal end of a case."""

    status: str = "uploading"
    attempts: int = 0
    bought: int = 1
    error: str | None = None


@dataclass(frozen=True)
class Case:
    """One fault, once: `place` is a failpoint or, where its answer is lost, a statement."""

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
        """Whether nothing that is bought runs before the fault has been met."""
        return self.place in WHILE_IT_RUNS

    @property
    def abandoned(self):
        """Whether the token begins with a worker that is dead."""
        return self.place in OF_A_RESCUE

    @property
    def possible(self):
        match self.place:
            case "before_censor" | "censored" | "censor":
                return self.behaviour == "rejection"
            case "before_look":
                return self.behaviour == "reset"  # the others leave no doubt about what was bought
            case "request_sent":
                return self.behaviour != "reset"  # there is no answer: before_look takes its place
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
        # A bug of ours fails its token at once: with what was bought and counted until then.
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
