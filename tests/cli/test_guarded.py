"""Commands that read a node's database themselves outlive what damaged pages do to the process that reads them."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from cli.output import CommandError
from eventlog.store import META, Store
from tests.eventlog import ledger
from tests.eventlog.opened import MAP_BYTES, single


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    async def write(folder: Path) -> None:
        async with single(folder) as log:
            for number in range(100):
                await log.propose(ledger.record(ledger.event(number)))

    folder = tmp_path_factory.mktemp("node")
    asyncio.run(write(folder))
    return folder / "data" / "data.mdb"


@pytest.fixture
def node(sound: Path, tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data.mdb").write_bytes(sound.read_bytes())
    return tmp_path


def mailraft(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("words", [("show", "50"), ("export",), ("rehearse",)])
def test_pages_that_kill_their_reader_are_an_error_that_says_where_to_go_on(words: tuple[str, ...], node: Path) -> None:
    database = node / "data" / "data.mdb"
    with database.open("r+b") as file:
        file.truncate(database.stat().st_size // 2)
    done = mailraft("log", *words, "--data", node)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{node}/data: its database is damaged: the process that read it died of SIG" in done.stderr
    assert f"mailraft log verify --data {node}/data" in done.stderr


def test_what_is_read_is_printed_by_the_child_once_and_its_exit_code_is_the_commands(node: Path) -> None:
    done = mailraft("log", "show", "50", "--data", node, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["position"] == 50
    done = mailraft("log", "show", "5000", "--data", node, "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no position 5000" in json.loads(done.stderr)["error"]["detail"]


def test_a_row_that_is_none_is_an_error_and_no_traceback(node: Path) -> None:
    store = Store(node / "data", MAP_BYTES, durable=False)
    store.txn.put(b"folded", b"\xc1", db=store.db[META])
    store.commit()
    store.close()
    result = CliRunner().invoke(main, ["log", "show", "50", "--data", str(node)])
    assert result.exit_code == 1
    assert f"{node}/data: can not be read" in result.stderr
    assert "log verify" in result.stderr


@pytest.mark.parametrize(
    ("number", "ended"), [(signal.SIGBUS, CommandError), (signal.SIGKILL, 137), (signal.SIGTERM, 143)]
)
def test_a_death_that_damage_does_not_cause_is_not_called_that(number: int, ended: object, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DIES.format(number=int(number)), str(tmp_path)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == (1 if ended is CommandError else ended)
    assert ("damaged" in done.stderr) == (ended is CommandError)


DIES = """
import os, sys
from pathlib import Path
import click
from cli.groups import OWN_PROCESS
from cli.guarded import read_in_a_child

@click.command()
@click.argument("place")
@click.pass_context
def command(context, place):
    context.meta[OWN_PROCESS] = True
    read_in_a_child(Path(place))
    read_in_a_child(Path(place))  # it is the child by now
    os.kill(os.getpid(), {number})

command()
"""
