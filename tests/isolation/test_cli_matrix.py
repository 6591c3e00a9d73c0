"""Every command of `mailraft`, as every role of one tenant, against things of another: as against what nobody has.

The commands are walked as click knows them, in this process, with a token and a node's address: without the folder of a
cluster. Those that need it, which only its keeper has, are no way in for a tenant.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from cli import layout
from cli.command_endpoints import ASKS, FOLDER, LOCAL, commands
from cli.main import main
from tests.cli.filled_commands import STDIN, VALUES, arguments
from tests.isolation.tenants_two import EVE, NOBODY, OTHER, ROLES, World
from tests.isolation.test_api_matrix import NOBODYS, THEIRS, Meter, Run, with_world
from tests.nodes.http.one_node import cell as cell

COMMANDS = dict(commands())
NAMING = ("tenant", "account", "domain", "sender", "recipient")  # options that name somebody's thing
WAITING = {
    "tenant import": "it reads an archive, which only an administrator of the cluster can have made",
    "node doctor": "it needs the configuration of a node of this machine",
}
_LOG_LINE = re.compile(r"^\d{4}-\d\d-\d\d.*\n", re.MULTILINE)  # of the node, which runs in this process


class Line(NamedTuple):
    """A command's line once with what is another tenant's, once with what nobody has."""

    name: str
    theirs: list[str]
    nobodys: list[str]


def names_of(of: Mapping[str, str], eve: str, world: World, token: str) -> dict[str, str]:
    people = dict.fromkeys(("members", "recipients", "recipient", "targets", "who", "whom", "sender", "account"), eve)
    return {
        **VALUES,
        **of,
        **people,
        "names": f"mail.{of['domain']}",
        "wanted": f"mail.{of['domain']}",
        "token_id": token,
    }


def lines(world: World, folder: Path) -> Iterator[Line]:
    theirs = names_of(THEIRS, EVE, world, world.other_token)
    nobodys = names_of(NOBODYS, NOBODY, world, world.other_token[::-1])
    for name, command in COMMANDS.items():
        if name in LOCAL or name in FOLDER or name in WAITING:
            continue
        named = [one.name for one in command.params if one.name in NAMING and not one.required]
        for optional in dict.fromkeys(((), tuple(named))):
            lines = []
            for number, names in enumerate((theirs, nobodys)):
                own = folder / f"{number}{len(optional)}"
                own.mkdir(exist_ok=True)
                lines.append(arguments(name, command, names, own, optional))
            yield Line(name, *lines)


def test_only_what_needs_the_folder_takes_no_token() -> None:
    takes = {name for name in ASKS if any(one.name == "token_file" for one in COMMANDS[name].params)}
    assert set(ASKS) - takes == set(FOLDER) - {"node join"}


@pytest.mark.parametrize("role", ROLES)
def test_no_command_shows_counts_or_touches_what_is_another_tenant_s(
    run: Run, cell: layout.Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, role: str
) -> None:
    def work(world: World, _meter: Meter) -> None:
        wrong: list[tuple[Any, ...]] = []
        token = world.callers[role]._headers["Authorization"].removeprefix("Bearer ")
        came_in = ways_in(cell, tmp_path / "token", token)
        for line in lines(world, tmp_path):
            told = said(line.theirs, line.name, came_in)
            if not any(one in " ".join(line.theirs) for one in (OTHER, world.other_token)):
                if any(one in told[1] for one in world.markers):
                    wrong.append((line.name, told, "shown"))
                continue
            alike = [(code, unnamed(text, world)) for code, text in (told, said(line.nobodys, line.name, came_in))]
            if alike[0] != alike[1]:
                wrong.append((line.name, *alike))
        assert not wrong, "\n".join(map(str, wrong))

    with_world(run, cell, monkeypatch, work)


def ways_in(cell: layout.Cluster, file: Path, token: str) -> list[str]:
    file.write_text(token + "\n")
    address = cell.nodes[0].addresses["admin"]
    return ["--token-file", str(file), "--ca", str(cell.folder / "ca" / "ca.pem"), "--cluster", address]


def said(line: list[str], name: str, came_in: list[str]) -> tuple[int, str]:
    """The exit code, and what is printed."""
    argument = any(one.name == "cluster_dir" and one.param_type_name == "argument" for one in COMMANDS[name].params)
    at = len(name.split())
    given = [*came_in[:-2], came_in[-1]] if argument else came_in
    done = CliRunner().invoke(main, [*line[:at], *given, *line[at:]], input=STDIN)
    return done.exit_code, _LOG_LINE.sub("", done.output)


def unnamed(text: str, world: World) -> str:
    """Without what tells the one line from the other: the names that were asked for, and the folders of files."""
    for name, word in (
        (world.other_token, "ID"),
        (world.other_token[::-1], "ID"),
        ("zweitel", OTHER),
        ("nil@", "eve@"),
    ):
        text = text.replace(name, word)
    return re.sub(r"/[01]\d/", "/FOLDER/", text)
