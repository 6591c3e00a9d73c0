"""Every command goes through the admin API, or says why it does not: docs/reference/commands.md holds what is true."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli import layout
from cli.client import AdminClient, Unreachable
from cli.command_endpoints import ASKS, LOCAL, STATUS, commands
from cli.main import main
from nodes.http.admin import endpoints
from nodes.http.openapi import openapi_path
from tests.cli.filled_commands import STDIN, arguments

COMMANDS = dict(commands())
STANDING = {"applied": 1, "pid": 1, "ready": True, "role": "follower", "term": 1}
BY_ITSELF = {
    "cluster replace-node": "it goes on asking until a node answers (test_membership.py)",
    "node doctor": "it needs the configuration of a node of this machine (test_node_doctor.py)",
    "node join": "it has no cluster's folder yet, so it asks by a connection of its own (test_node_certificates.py)",
    "tenant import": "it reads the whole archive before it asks (test_archive.py)",
}


def test_every_command_is_in_the_list_and_none_that_is_not_there() -> None:
    assert set(ASKS) | set(LOCAL) == set(COMMANDS)
    assert not set(ASKS) & set(LOCAL)


def test_what_a_command_asks_is_declared() -> None:
    declared = {f"{one.method} {openapi_path(one.path)}" for one in endpoints()}
    assert {one for asked in ASKS.values() for one in asked} <= declared


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layout.create(tmp_path_factory.mktemp("made") / "cell", 3, 20000).folder


@pytest.fixture
def cell(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "cell"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of nodes, none of which answers."""
    found: list[str] = []

    def ask(_client: AdminClient, _node: Any, method: str, path: str, *_rest: Any) -> Any:
        found.append(f"{method} {path.partition('?')[0]}")
        raise Unreachable("nothing listens there")

    def status(_client: AdminClient, _node: Any, _timeout_s: float = 0) -> Any:
        found.append(STATUS)
        return STANDING

    monkeypatch.setattr(AdminClient, "_ask", ask)
    monkeypatch.setattr(AdminClient, "status", status)
    return found


@pytest.mark.parametrize("name", [name for name in ASKS if name not in BY_ITSELF])
def test_a_command_asks_what_the_list_says(name: str, cell: Path, asked: list[str], tmp_path: Path) -> None:
    done = run(name, cell, tmp_path)
    others = [one for one in asked if one != STATUS] or asked
    assert others, done.output
    assert any(matches(others[0], one) for one in ASKS[name]), (others[0], ASKS[name])


def run(name: str, cell: Path, folder: Path) -> Result:
    line = arguments(name, COMMANDS[name], {}, folder)
    takes_folder = any(one.name == "cluster_dir" and one.param_type_name == "argument" for one in COMMANDS[name].params)
    place = [str(cell)] if takes_folder else ["--cluster", str(cell)]
    at = len(name.split())
    return CliRunner().invoke(main, [*line[:at], *place, *line[at:]], input=STDIN)


def matches(asked: str, declared: str) -> bool:
    pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(declared))
    return re.fullmatch(pattern, asked) is not None
