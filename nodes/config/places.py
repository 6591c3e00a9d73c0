"""On which line of a TOML file each key stands, for errors that a person can act on.

tomllib tells no places, so the text is cut into its statements, each the fewest lines that tomllib takes as a document
of their own. The text must be valid TOML as a whole.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

Path = tuple[str, ...]


def lines_of_keys(text: str) -> dict[Path, int]:
    """The line, from 1, of each table (one name) and of each key in a table (two names), where it comes first."""
    found: dict[Path, int] = {}
    table: Path = ()
    for line, statement in _statements(text.replace("\r\n", "\n").split("\n")):
        paths = list(_paths(tomllib.loads(statement)))
        if statement.lstrip().startswith("["):
            table, paths = paths[-1], [()]
        for path in paths:
            whole = table + path
            for depth in (1, 2):
                found.setdefault(whole[:depth], line)
    return found


def _statements(lines: list[str]) -> Iterator[tuple[int, str]]:
    start = 0
    while start < len(lines):
        end = start + 1
        while not _is_whole(statement := "\n".join(lines[start:end])) and end < len(lines):
            end += 1
        if not statement.lstrip().startswith("#") and statement.strip():
            yield start + 1, statement
        start = end


def _is_whole(statement: str) -> bool:
    try:
        tomllib.loads(statement)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _paths(value: Any, above: Path = ()) -> Iterator[Path]:
    """Each way down to what is no table, or is an empty one."""
    if isinstance(value, list) and value == [{}]:
        value = {}  # [[table]]
    if not isinstance(value, dict) or not value:
        yield above
        return
    for name, below in value.items():
        yield from _paths(below, (*above, name))
