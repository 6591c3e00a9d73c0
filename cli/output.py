"""How commands speak: tables and progress for people, JSON for programs, errors that say what to do next.

Data goes to standard output, everything else to standard error.
"""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import click

from cli.groups import AS_JSON
from nodes.errors.registry import kind_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

FAILED = 1
WRONG_USE = 2
UNKNOWN = 3
SPINNER_COLUMNS = 2  # what a spinner takes in front of its text


class CommandError(click.ClickException):
    """The command did not do what it says; `hint` tells what to do about it, `code` names the kind (nodes/errors).

    `said`: what a problem of the API says of itself, which counts where the node is of another version than this.
    """

    def __init__(
        self,
        message: str,
        hint: str = "",
        exit_code: int = FAILED,
        code: str = "",
        said: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code
        self.said = said or {}
        self.__dict__["exit_code"] = exit_code  # the base declares it for the class; click reads it from the instance
        context = click.get_current_context(silent=True)  # click shows the error when there is none any more
        self._as_json = context is not None and bool(context.params.get("as_json") or context.meta.get(AS_JSON))

    def show(self, file: IO[Any] | None = None) -> None:
        if self._as_json:
            click.echo(json_text({"error": self.facts()}, shown=sys.stderr.isatty()), err=True)
            return
        click.secho("error: ", fg="red", bold=True, nl=False, err=True)
        click.echo(self.format_message() + (f" [{self.code}]" if self.code else ""), err=True)
        if self.hint:
            click.secho("  try: ", bold=True, nl=False, err=True)
            click.echo(self.hint, err=True)

    def of_node(self, name: str) -> str:
        """What it says, and which node says so."""
        return self.message if self.message.startswith(f"{name}: ") else f"{name}: {self.message}"

    def facts(self) -> dict[str, Any]:
        """All that is known of it, for programs: the members of a problem (RFC 9457), and the exit code."""
        kind = kind_of(self.code or ("outcome_unknown" if self.exit_code == UNKNOWN else "command_failed"))
        known = {
            "code": kind.code,
            "category": kind.category,
            "severity": kind.severity,
            "retry": kind.retry.when,
            "retry_after_s": kind.retry.after_s or None,
        }
        told = {name: self.said[name] for name in known if name in self.said}
        return {**known, **told, "detail": self.message, "hint": self.hint, "exit_code": self.exit_code}


class WrongUse(CommandError):
    """What click says of a line that it can not take, for programs."""

    def __init__(self, error: click.UsageError) -> None:
        path = error.ctx.command_path if error.ctx is not None else "mailraft"
        super().__init__(error.format_message(), f"{path} --help", WRONG_USE, "bad_usage")
        self._as_json = True


def print_json(value: Any) -> None:
    """One JSON document, indented where a person reads it (which takes several times as long to write)."""
    shown = sys.stdout.isatty()
    click.echo(json_text(value, shown=shown, indent=2 if shown else None))


def print_json_line(value: Any) -> None:
    """One JSON document on a line of its own."""
    click.echo(json_text(value, shown=sys.stdout.isatty()))


def json_text(value: Any, *, shown: bool, indent: int | None = None) -> str:
    """A JSON document; where it is shown, what could control a terminal or turn its text round is written as an escape.

    JSON itself escapes no more than U+0000 to U+001F (RFC 8259 7); C1 controls and marks of direction it lets through.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    if not shown or text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)


def say(text: str) -> None:
    """A line about what goes on: standard error, so that it never mixes with data."""
    click.echo(text, err=True)


def agree(question: str, yes: bool) -> None:
    """Goes on if `yes` was given or is answered. Raises CommandError where nobody can be asked, or says no."""
    if yes:
        return
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        raise CommandError("nothing was done: nobody agreed", "--yes, to go on without being asked") from None
    if not agreed:
        raise CommandError("nothing was done")


def console() -> Console:
    """A terminal on standard error: for progress."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def one_line(text: str, columns: int) -> Text:
    """Text that is cut to fit a line of so many columns: a line that wraps can not be drawn over."""
    from rich.text import Text

    line = Text(text)
    line.truncate(max(1, columns), overflow="ellipsis")
    return line


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """A table, or the sentence `empty`. A column whose name begins with ">" is aligned right.

    Each row is one line, whatever the terminal's width: the terminal wraps, and a copy of the text is whole.
    """
    from rich.cells import cell_len

    lines = [[_cell(cell) for cell in row] for row in rows]
    if not lines:
        click.echo(empty)
        return
    names = [column.lstrip(">") for column in columns]
    widths = [max(map(cell_len, cells)) for cells in zip(names, *lines)]

    def padded(cells: Sequence[str]) -> str:
        parts = []
        for cell, column, width in zip(cells, columns, widths):
            gap = " " * (width - cell_len(cell))
            parts.append(gap + cell if column.startswith(">") else cell + gap)
        return "  ".join(parts).rstrip()

    click.secho(padded(names), bold=True)
    for line in lines:
        click.echo(padded(line))


def counted(count: int, what: str) -> str:
    """A number of things: "1 segment", "2 segments", "0 bodies"."""
    if count == 1:
        return f"1 {what}"
    if what.endswith("y"):
        return f"{count} {what.removesuffix('y')}ies"
    return f"{count} {what}{'es' if what.endswith('x') else 's'}"


def size_text(size_bytes: int) -> str:
    """Bytes as people read them: "951 bytes", "5.2 kB", "1.3 GB"."""
    if size_bytes < 1000:
        return counted(size_bytes, "byte")
    size = float(size_bytes)
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 999.95:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} TB"


def iso_time(at_ms: int) -> str:
    """Milliseconds since 1970 as ISO 8601 in UTC."""
    moment = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(str(value))


def printable(text: str) -> str:
    """Text that can not control the terminal it is shown on, nor end its line."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)
