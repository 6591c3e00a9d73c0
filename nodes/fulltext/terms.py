"""What of a message goes into the index, and what a needle asks of it: runs of three characters.

A text that holds a needle holds each run of three that the needle holds; so a message without one of them can not
match, whatever words or languages are. Needles shorter than three are for a scan.
"""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from nodes.mime import searched, structure

GRAM = 3
NEEDLE_GRAMS = 48  # of a longer needle so many, spread over it
NAMES_LIMIT = 300
NAME_BYTES = 200
TEXT_LIMIT_CHARACTERS = 4 * 1024 * 1024  # of one message; what has more is read by every search


class Indexed(NamedTuple):
    """`whole`: nothing was left out. Else a search must read the message, whatever the index says."""

    names: tuple[str, ...]
    headers: tuple[str, ...]
    texts: tuple[str, ...]
    whole: bool


def indexed(data: bytes) -> Indexed:
    """A message as it is served, taken apart. Takes any bytes."""
    root = structure.parse(data)
    names = {field.name for field in root.fields}
    headers, whole_headers = _limited(searched.header_texts(data, root))
    texts, whole_texts = _limited(searched.body_texts(data, root))
    kept = sorted(name.decode("latin-1") for name in islice(names, NAMES_LIMIT) if len(name) <= NAME_BYTES)
    return Indexed(tuple(kept), headers, texts, whole_headers and whole_texts and len(kept) == len(names))


def _limited(texts: Iterator[str]) -> tuple[tuple[str, ...], bool]:
    found: list[str] = []
    left = TEXT_LIMIT_CHARACTERS
    for text in texts:
        left -= len(text)
        if left < 0:
            return tuple(found), False
        found.append(text)
    return tuple(found), True


def grams(needle: str) -> list[str]:
    """The runs of three of a folded needle, each once; none where it is too short."""
    count = len(needle) - GRAM + 1
    step = max(1, count // NEEDLE_GRAMS)
    return list(dict.fromkeys(needle[at : at + GRAM] for at in range(0, count, step)))
