"""How commands speak: tables and progress for people, JSON for programs, errors that say what to do next.

Data goes to standard output, everything else to standard error.
"""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

FAILED = 1
UNKNOWN = 3


class CommandError(click.ClickException):
    """The command did not do what it says; `hint` tells what to do about it."""

    def __init__(self, message: str, hint: str = "", exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.hint = hint
        self.__dict__["exit_code"] = exit_code  # the base declares it for the class; click reads it from the instance

    def show(self, file: IO[Any] | None = None) -> None:
        click.secho("error: ", fg="red", bold=True, nl=False, err=True)
        click.echo(self.format_message(), err=True)
        if self.hint:
            click.secho("  try: ", bold=True, nl=False, err=True)
            click.echo(self.hint, err=True)


def print_json(value: Any) -> None:
    """One JSON document, indented where a person reads it (which takes several times as long to write)."""
    click.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))


def print_json_line(value: Any) -> None:
    """One JSON document on a line of its own."""
    click.echo(json.dumps(value, ensure_ascii=False))


def say(text: str) -> None:
    """A line about what goes on: standard error, so that it never mixes with data."""
    click.echo(text, err=True)


def console() -> Console:
    """A terminal on standard error: for progress."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """A table, or the sentence `empty`. A column whose name begins with ">" is aligned right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    lines = [[Text(_cell(cell)) for cell in row] for row in rows]
    if not lines:
        click.echo(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    for line in lines:
        table.add_row(*line)
    terminal = Console(highlight=False)
    if not terminal.is_terminal:
        terminal = Console(highlight=False, width=200)
    terminal.print(table)


def iso_time(at_ms: int) -> str:
    """Milliseconds since 1970 as ISO 8601 in UTC."""
    moment = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
