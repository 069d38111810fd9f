"""What can go wrong with a generation. The class says what happens to the token next.

GenerationError
├── TransientError          backs off, one attempt counted
│   ├── RateLimitedError    waits as long as the provider says, nothing counted
│   └── RepeatedPromptError as above, and says nothing about the provider
├── ContentPolicyError      falls back to the censored prompt
├── PermanentError          fails at once
│   └── UnauthorizedError   fails at once and closes the gate
├── AccountError            is released and closes the gate
└── AmbiguousCreateError    is looked for before anything else is bought
"""


class GenerationError(Exception):
    """A generation that brought no image; the message is fit to be stored on the token once redacted.

    `purchase_over` is True where the money question is settled: the prediction ended without an image, or none was
    bought. False keeps seed and prediction id on the token, so that the next attempt resumes or looks first. `answered`
    is True where the provider itself said so: then this worker reaches it.
    """

    answered = False

    def __init__(self, message: str, *, purchase_over: bool = True, answered: bool | None = None) -> None:
        super().__init__(message)
        self.purchase_over = purchase_over
        if answered is not None:
            self.answered = answered

    @property
    def kind(self) -> str:
        """The name that logs and metrics carry as `error_type`."""
        return type(self).__name__


class TransientError(GenerationError):
    """May pass by itself: timeouts, connections, 5xx, canceled, aborted, empty output.

    Not `answered`, no HTTP answer came (DNS, connect, TLS): then the fault may be this worker's alone.
    `retry_after` is seconds until the next try makes sense; None leaves it to the backoff. `unexplained` is True if no
    words that are known say why a prediction failed: then its prompt may be the reason.
    """

    answered = True

    def __init__(
        self,
        message: str,
        *,
        purchase_over: bool = True,
        answered: bool | None = None,
        retry_after: float | None = None,
        unexplained: bool = False,
    ) -> None:
        super().__init__(message, purchase_over=purchase_over, answered=answered)
        self.retry_after = retry_after
        self.unexplained = unexplained


class RateLimitedError(TransientError):
    """429: the account's condition, not the token's. `retry_after` is what the provider named, capped at 300.

    `limit_per_minute`: creates, where the account has a lower limit for now.
    """

    def __init__(
        self, message: str, *, retry_after: float, purchase_over: bool = True, limit_per_minute: float | None = None
    ) -> None:
        super().__init__(message, purchase_over=purchase_over, retry_after=retry_after)
        self.limit_per_minute = limit_per_minute


class RepeatedPromptError(TransientError):
    """An answer whose meaning depends on what it repeats of the prompt: it may close no gate, its author wrote it."""


class ContentPolicyError(GenerationError):
    """The provider refused the prompt or what came of it."""


class PermanentError(GenerationError):
    """Asking again with the same input would fail again."""


class UnauthorizedError(PermanentError):
    """401 or 403: the API token is not accepted."""

    answered = True


class AccountError(GenerationError):
    """402, or a model that is not there: no token can be generated until somebody acts."""

    answered = True


class AmbiguousCreateError(GenerationError):
    """A create whose answer never came or could not be read: it may have been bought.

    Timeout or reset after sending, 502, 504, an unreadable 2xx. Replicate has no idempotency key.
    """

    answered = True

    def __init__(self, message: str, *, answered: bool | None = None) -> None:
        super().__init__(message, purchase_over=False, answered=answered)
