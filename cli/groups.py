"""Groups of commands: a list of them that is not cut short, and a way on from a name that is none."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

import click

AS_JSON = "mailraft.as_json"  # in a context's `meta`: the line has --json, wherever it went wrong
OWN_PROCESS = "mailraft.own_process"  # likewise: there is nothing in this process but the command
WHOLE = 1000  # letters of a sentence; click's own list cuts it so that each command takes one line


class Group(click.Group):
    """A group whose help has the whole first sentence of each command, and that says what was perhaps meant."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, one.get_short_help_str(WHOLE)) for name, one in found if one is not None and not one.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name.startswith("-") or self.get_command(ctx, name) is not None:
            return super().resolve_command(ctx, args)
        meant = list(dict.fromkeys(_meant(self, ctx, name)))
        ways = f" Perhaps: {', '.join(meant)}." if meant else ""
        raise click.UsageError(f"No such command '{name}'.{ways}", ctx)


def _meant(group: click.Group, ctx: click.Context, name: str) -> Iterator[str]:
    """Commands of this group that are written much the same, then those of that very name in any group."""
    for close in difflib.get_close_matches(name, _shown(group, ctx)):
        yield f"{ctx.command_path} {close}"
    root = ctx.find_root()
    assert isinstance(root.command, click.Group)
    for other in _shown(root.command, root):
        command = root.command.get_command(root, other)
        if other == name:
            yield f"{root.command_path} {other}"
        if isinstance(command, click.Group) and name in command.list_commands(root):
            yield f"{root.command_path} {other} {name}"


def _shown(group: click.Group, ctx: click.Context) -> list[str]:
    """The names of its commands, without those that are hidden."""
    found = ((name, group.get_command(ctx, name)) for name in group.list_commands(ctx))
    return [name for name, command in found if command is not None and not command.hidden]
