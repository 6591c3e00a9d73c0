"""A moment of the log that was typed behind an option."""

from __future__ import annotations

import time

from cli.output import CommandError
from nodes.moments import Moment, parse_moment


def moment_argument(text: str, option: str, *, future: bool = False) -> Moment:
    """What was typed behind an option, as nodes/moments.py reads it; `future`: it may lie there.

    Raises CommandError.
    """
    try:
        return parse_moment(text, int(time.time() * 1000), future=future)
    except ValueError as error:
        raise CommandError(f"{option} {text}: {error}", "2026-11-01T10:00:00Z, #12345 or -2h") from None
