"""Hub errors: one line with the reason and the remedy."""

from __future__ import annotations

from collections.abc import Iterator

from ...messages import redacted

REASONS = {
    401: "401, not logged in or a wrong token; run `hf auth login`.",
    403: "403, the token may not write there.",
    404: "404, there is no such repository or branch, or the token may not see it.",
    409: "409, the repository is in the way of what was asked (a name that is taken, or a commit in between).",
    429: "429, too many requests; try again in a while.",
}


class HubError(RuntimeError):
    """Error of a push: the Hub refused or was out of reach; nothing on disk was lost.

    Attributes:
        passing: it may work later as it is (an outage), where a refusal (a wrong token) needs something done.
    """

    def __init__(self, message: str, passing: bool = False):
        super().__init__(redacted(message))
        self.passing = passing


def explain(error: BaseException) -> tuple[str, bool]:
    """Reason of a Hub error in one line, and whether trying again later may be enough.

    Example:
        >>> explain(TimeoutError("read timed out"))
        ('the Hub is out of reach (TimeoutError: read timed out).', True)
    """
    if isinstance(error, HubError):
        return str(error), error.passing
    causes = list(_causes(error))
    response = next((r for e in causes if (r := getattr(e, "response", None)) is not None), None)
    if response is not None:
        status = response.status_code
        fault = f"{status}, the Hub's own fault; try again in a while." if status >= 500 else f"{status}."
        server_message = next((s for e in causes if (s := getattr(e, "server_message", None))), None)
        detail = f" The Hub says: {' '.join(server_message.split())}" if server_message and status < 500 else ""
        return REASONS.get(status, fault) + detail, status >= 500 or status in (408, 429)
    last = causes[-1]
    detail = str(last).splitlines()[0] if str(last) else "no detail"
    if any(isinstance(e, (ConnectionError, TimeoutError)) or type(e).__module__.startswith("http") for e in causes):
        return f"the Hub is out of reach ({type(last).__name__}: {detail}).", True
    return f"{detail.rstrip('.')} ({type(last).__name__}).", False


def without_token(error: BaseException) -> BaseException | None:
    """Cause of an error to show, unless it holds a token."""
    texts = [str(cause) for cause in _causes(error)]
    return error if [redacted(text) for text in texts] == texts else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from, outermost first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__
