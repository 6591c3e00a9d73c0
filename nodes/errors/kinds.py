"""What is said of every kind of error, wherever it is met: in the API, in log lines, in metrics, in the CLI.

Pure words, without imports of ours: the command line reads them too, and must be quick.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Category = str  # one of CATEGORIES
Severity = str  # one of SEVERITIES
When = Literal["never", "later", "elsewhere"]

CATEGORIES: dict[Category, str] = {
    "bad_request": "The request is wrong",
    "unauthenticated": "Who asks is not known",
    "forbidden": "Not allowed",
    "not_found": "There is no such thing",
    "conflict": "It is taken, or not in the state for that",
    "precondition": "It has changed meanwhile",
    "refused": "It can not be done as things are",
    "too_many": "Too much at once",
    "rejected": "The log refused it",
    "not_ready": "This node can not do it now",
    "quarantined": "This node takes no part",
    "diverged": "It is another log than before",
    "unknown": "The outcome is unknown",
    "internal": "The node failed",
}
STATUSES: dict[Category, int] = {
    "bad_request": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "precondition": 412,
    "refused": 422,
    "too_many": 429,
    "rejected": 503,
    "not_ready": 503,
    "quarantined": 503,
    "diverged": 409,
    "unknown": 504,
    "internal": 500,
}
SEVERITIES: dict[Severity, str] = {
    "info": "the asker's own business: nothing for an operator to do",
    "warning": "worth a look where it is frequent: a limit, a peer, an attacker",
    "error": "the node, or something that it needs, failed at this: look",
    "critical": "the mail or the service is at stake: look now",
}
# what the command ends with; a program that calls it knows from that alone whether to call again
EXIT_NOT_NOW = 4
EXITS: dict[Category, int] = {
    "too_many": EXIT_NOT_NOW,
    "rejected": EXIT_NOT_NOW,
    "not_ready": EXIT_NOT_NOW,
    "quarantined": EXIT_NOT_NOW,
    "unknown": 3,
}


class Retry(NamedTuple):
    """Whether the same may be asked again: never as it is, of the same node after so long, of another node."""

    when: When
    after_s: int = 0

    @property
    def text(self) -> str:
        return f"after {self.after_s} s" if self.when == "later" else {"never": "never"}.get(self.when, "another node")


NEVER = Retry("never")
ELSEWHERE = Retry("elsewhere")


def later(after_s: int) -> Retry:
    """Of the same node, so many seconds later."""
    return Retry("later", after_s)


class ErrorKind(NamedTuple):
    """One kind of error. `code` names it to programs and is never renamed; `title` says what it is, `hint` what to do.

    A hint is what stands behind "try: " where the place that raises it knows none better.
    """

    code: str
    category: Category
    severity: Severity
    retry: Retry
    title: str
    hint: str = ""
    http: int = 0  # another status than the category's

    @property
    def status(self) -> int:
        """Of HTTP, where the place that raises it says no other."""
        return self.http or STATUSES[self.category]

    @property
    def exit_code(self) -> int:
        """Of the command line."""
        return EXITS.get(self.category, 1)
