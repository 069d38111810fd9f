"""What can go wrong with a generation. The class says what happens to the token next.

GenerationError
├── TransientError          backs off, one attempt counted
│   ├── RateLimitedError    waits as long as the provider says, nothing counted
│   └── RepeatedPromptError backs off, and does not count against the provider
├── ContentPolicyError      falls back to the censored prompt
├── PermanentError          fails at once
│   └── UnauthorizedError   fails at once and closes the gate
├── AccountError            is released and closes the gate
└── AmbiguousCreateError    is looked for before anything else is bought
"""


class GenerationError(Exception):
    """A generation that brought no image. The message may be stored on the token once it is redacted.

    `purchase_over` is True if the prediction ended without an image, or nothing was bought. If it is False, the token
    keeps its seed and prediction id, so that the next attempt resumes the prediction, or looks for it first. `answered`
    is True if the provider itself answered, which proves that this worker reaches it.
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

    `answered` is False if no HTTP answer came (DNS, connect, TLS): the fault may lie with this worker alone.
    `retry_after` is the seconds until the next try makes sense; None leaves that to the backoff. `unexplained` is True
    if a prediction failed with a text that we do not know: the prompt may be the reason.
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
    """429: the account is limited, the token is not at fault. `retry_after` comes from the provider, capped at 300.

    `limit_per_minute` is the account's lower limit of creates, if the answer names one.
    """

    def __init__(
        self, message: str, *, retry_after: float, purchase_over: bool = True, limit_per_minute: float | None = None
    ) -> None:
        super().__init__(message, purchase_over=purchase_over, retry_after=retry_after)
        self.limit_per_minute = limit_per_minute


class RepeatedPromptError(TransientError):
    """The answer's meaning depends on words of the prompt. It closes no gate, because the author wrote those words."""


class ContentPolicyError(GenerationError):
    """The provider refused the prompt, or the image made from it."""


class PermanentError(GenerationError):
    """Asking again with the same input would fail again."""


class UnauthorizedError(PermanentError):
    """401 or 403: the API token is not accepted."""

    answered = True


class AccountError(GenerationError):
    """402, or an unknown model: no token can be generated until the operator acts."""

    answered = True


class AmbiguousCreateError(GenerationError):
    """A create whose answer never came or could not be read: an image may have been bought.

    Timeout or reset after sending, 502, 504, an unreadable 2xx. Replicate has no idempotency key.
    """

    answered = True

    def __init__(self, message: str, *, answered: bool | None = None) -> None:
        super().__init__(message, purchase_over=False, answered=answered)
