"""What can go wrong with a generation. The class says what happens to the token next.

GenerationError
├── TransientError          backs off; one attempt is counted
│   ├── RateLimitedError    waits as long as the provider says; no attempt is counted
│   └── RepeatedPromptError backs off like its parent; says nothing about the provider
├── ContentPolicyError      falls back to the censored prompt
├── PermanentError          fails at once
│   └── UnauthorizedError   closes the gate and fails the first token at once; other tokens are released
├── AccountError            is released and closes the gate
└── AmbiguousCreateError    the listing is searched before anything else is bought

With COUNT_RATE_LIMITS a 429 counts too. A failure counts only if it is the token's own, not if it is the account's or
the provider's: see engine/gate/blame.py.
"""


class GenerationError(Exception):
    """A generation without an image. The message may be stored on the token once it is redacted.

    `purchase_over` is True if nothing bought is left: the prediction ended without an image, or none was bought. False
    keeps seed and prediction id on the token, so that the next attempt first resumes the prediction or searches for it.
    `answered` is True if the provider itself answered: then this worker can reach it.
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
    """A fault that may pass by itself: timeout, connection, 5xx, canceled, aborted, empty output.

    If `answered` is False, no HTTP answer came (DNS, connect, TLS), and the fault may be this worker's alone.
    `retry_after` is seconds until the next try makes sense; None leaves it to the backoff. `unexplained` is True if no
    known text says why the prediction failed: then its prompt may be the reason.
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
    """A 429, which is about the account and not the token. `retry_after` is the provider's, at most 300 seconds.

    `limit_per_minute`: creates a minute, if the account has a lower limit for now; else None.
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
