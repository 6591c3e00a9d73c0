"""Seeds on a command line: one, a range, or a list of them."""

from __future__ import annotations

import click

MOST = 1_000_000


def seeds(text: str) -> tuple[int, ...]:
    """`7`, `1..1000` or `1,5,9..12` as whole numbers in the order given, each once. Raises click.BadParameter."""
    try:
        found = [seed for part in text.split(",") for seed in _range(part)]
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a seed, a range or a list of them: 7, 1..1000, 1,5,9..12.") from None
    return tuple(dict.fromkeys(found))


def _range(part: str) -> range:
    """Raises ValueError."""
    first, dots, last = part.partition("..")
    found = range(int(first), int(last if dots else first) + 1)
    if not 0 < len(found) <= MOST:
        raise ValueError(part)
    return found
