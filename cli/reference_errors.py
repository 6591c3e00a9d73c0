"""The reference page of errors: every code of the registry, and what each of its words means."""

from __future__ import annotations

from collections.abc import Iterator

from nodes.errors.kinds import CATEGORIES, EXITS, SEVERITIES, STATUSES, ErrorKind
from nodes.errors.registry import REGISTRY

_INTRODUCTION = """# Errors

Whatever is refused or fails has a code, and the code is the same everywhere: in a problem of the admin API (RFC 9457),
on the last line of a long answer, in a line of the node's log, in the label of `mailraft_errors_total`, and in brackets
behind an error of the command line. A code is never renamed. The registry (`nodes/errors`) says of each code its
category, its severity and whether the same may be asked again; this page is made of it.

A problem says so in the members `code`, `category`, `severity`, `retry` (`never`, `later`, `elsewhere`) and
`retry_after_s`; `mailraft ... --json` prints `{"error": {...}}` with these and `detail`, `hint` and `exit_code`, on
standard error. Lines of the log carry `code=` and `severity=`. What clients of SMTP, LMTP, IMAP, POP3 and the API are
refused is logged as `refused`, at most 100 lines a second (`left_out=` says how many were not written), and always
counted. The place that raises an error may know a better hint than the one here."""


def errors_lines() -> Iterator[str]:
    """The page's lines."""
    yield _INTRODUCTION
    yield from ("", "## Categories", "", "| category | | HTTP | exit code |", "|---|---|---|---|")
    yield from (f"| `{one}` | {text} | {STATUSES[one]} | {EXITS.get(one, 1)} |" for one, text in CATEGORIES.items())
    yield ""
    yield "HTTP has a finer status for some (405, 413). Exit codes: 0 it did what it says; 1 it did not; 2 it was"
    yield "called wrongly; 3 the outcome is unknown; 4 not now, and nothing was done: the same may be asked again."
    yield from ("", "## Severities", "", "| severity | |", "|---|---|")
    yield from (f"| `{one}` | {text} |" for one, text in SEVERITIES.items())
    yield from (
        "",
        "## Codes",
        "",
        "| code | | category | severity | again | what to do |",
        "|---|---|---|---|---|---|",
    )
    yield from (_row(one) for one in REGISTRY.values())
    yield ""


def _row(one: ErrorKind) -> str:
    return f"| `{one.code}` | {one.title} | {one.category} | {one.severity} | {one.retry.text} | {one.hint} |"
