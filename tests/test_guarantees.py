"""docs/guarantees.md can not drift: what it says shows a promise is there. Nor can the table of departures (ADR 6)."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from chaos.scenarios import SCENARIOS
from chaos.simulation.departures import DEPARTURES
from cli.main import main

ROOT = Path(__file__).resolve().parent.parent
GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text()
ROWS = [line for line in GUARANTEES.splitlines() if line.startswith("| ") and not line.startswith("| promise")]


def shown_by(row: str) -> list[str]:
    """What the last cell of a row names: programs, tests, and pages."""
    cell = row.strip("| ").rpartition("|")[2]
    return re.findall(r"`([^`]+)`", cell) + re.findall(r"\]\(([^)]+)\)", cell)


def faults_of(names: list[str]) -> Iterator[str]:
    folder = ROOT / "tests"
    for name in names:
        words = name.split()
        if words[0] == "mailraft" or main.get_command(click.Context(main), words[0]) is not None:
            yield from command_faults(words[words[0] == "mailraft" :])
        elif words[0] == "make":
            if f"\n{words[1]}:" not in (ROOT / "Makefile").read_text():
                yield f"no target {words[1]}"
        elif name.startswith("test_") or name.startswith("tests/"):
            path = folder / name if name.startswith("test_") else ROOT / name
            folder = path.parent if path.suffix else path
            files = [path] if path.is_file() else list(path.rglob("test_*.py"))
            if not any(re.search(r"def test_|\.TestCase\b", file.read_text()) for file in files):
                yield f"no test in {name}"
        elif not (ROOT / "docs" / name.removeprefix("docs/")).exists():
            yield f"no page {name}"


def command_faults(words: list[str]) -> Iterator[str]:
    command: click.Command = main
    for number, word in enumerate(words):
        if word.startswith("--"):
            if not any(word in parameter.opts for parameter in command.params):
                yield f"no option {word}"
        elif isinstance(command, click.Group):
            found = command.get_command(click.Context(command), word)
            if found is None:
                yield f"no command {' '.join(words[: number + 1])}"
                return
            command = found
        elif words[:2] == ["chaos", "run"] and word not in (*SCENARIOS, "all"):
            yield f"no scenario {word}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.strip("| ")[:60])
def test_what_shows_a_promise_is_there(row: str) -> None:
    names = shown_by(row)
    assert names or "the same checkers" in row or "every simulated run" in row, "nothing is named that shows it"
    assert list(faults_of(names)) == []


@pytest.mark.parametrize(
    "name", ["tests/nowhere", "test_nowhere.py", "mailraft log nonsense", "mailraft chaos run nonsense", "ADR/0000.md"]
)
def test_what_is_not_there_is_found(name: str) -> None:
    assert len(list(faults_of([name]))) == 1


def test_each_departure_of_the_simulation_has_its_number_of_seeds_in_the_table() -> None:
    table = (ROOT / "docs" / "ADR" / "0006-simulation.md").read_text().partition("## What it finds")[2]
    rows = re.findall(r"^\| ([a-z-]+)(?: \([^)]*\))? \| [^|]+ \| (\d+) \| (\d+) \|", table, re.M)
    assert {name for name, _, _ in rows} == set(DEPARTURES)
    assert all(0 < int(found) <= int(seeds) for _, found, seeds in rows)
