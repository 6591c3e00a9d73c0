"""A run as a file: one JSON object a line, the history and the final observation, written and read back.

So a run can be judged again later, by other checkers or by other people, without the cluster.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from chaos.checkers.log import NodeHead, NodeLog
from chaos.final import Final
from chaos.history import Band, Footprint, History, Kill, Moment, Operation, Outcome, Sighting
from chaos.observation import Copy

FILE = "history.jsonl"
FORMAT = 1
LINE_LIMIT = 64 * 1024 * 1024


class HistoryError(Exception):
    """The file is not what `write_run` writes; the text names the line."""


def write_run(path: Path, scenario: str, seed: int, history: History, final: Final) -> None:
    """Writes the run. Raises OSError."""
    with open(path, "w", encoding="utf-8") as file:
        for kind, facts in _lines(scenario, seed, history, final):
            file.write(json.dumps({"kind": kind} | facts, ensure_ascii=False) + "\n")


def _lines(scenario: str, seed: int, history: History, final: Final) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "run", {"format": FORMAT, "scenario": scenario, "seed": seed, "skipped": history.skipped}
    for kind, rows in (
        ("operation", history.operations),
        ("kill", history.kills),
        ("band", history.bands),
        ("moment", history.timeline),
        ("sighting", history.sightings),
        ("footprint", history.footprints),
        ("head", final.heads),
        ("log", final.logs),
    ):
        for row in rows:
            yield kind, asdict(row) if is_dataclass(row) else row._asdict()
    for node, holdings in final.observed.items():
        for account, copies in holdings.items():
            yield "mailbox", {"node": node, "account": account, "copies": [list(copy) for copy in copies]}


def read_run(path: Path) -> tuple[str, int, History, Final]:
    """(scenario, seed, history, final observation) of a file. Raises OSError or HistoryError."""
    reader = _Reader()
    with open(path, "rb") as file:
        number = 0
        while line := file.readline(LINE_LIMIT):
            number += 1
            try:
                facts = json.loads(line)
                reader.take(facts.pop("kind"), facts)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise HistoryError(f"{path}:{number}: {type(error).__name__}: {error}") from None
    if reader.run is None:
        raise HistoryError(f"{path}: has no line of kind run")
    return str(reader.run["scenario"]), int(reader.run["seed"]), reader.history, reader.final()


class _Reader:
    def __init__(self) -> None:
        self.run: dict[str, Any] | None = None
        self.history = History(started=0.0)
        self._observed: dict[str, dict[str, list[Copy]]] = {}
        self._heads: list[NodeHead] = []
        self._logs: list[NodeLog] = []
        history = self.history
        self._takers: dict[str, Callable[[dict[str, Any]], None]] = {
            "run": self._run,
            "operation": lambda facts: history.operations.append(_operation(facts)),
            "kill": lambda facts: history.kills.append(Kill(**facts)),
            "band": lambda facts: history.bands.append(Band(**facts)),
            "moment": lambda facts: history.timeline.append(Moment(**facts)),
            "sighting": lambda facts: history.sightings.append(Sighting(**facts)),
            "footprint": lambda facts: history.footprints.append(Footprint(**facts)),
            "head": lambda facts: self._heads.append(NodeHead(**facts)),
            "log": lambda facts: self._logs.append(NodeLog(**facts)),
            "mailbox": self._mailbox,
        }

    def take(self, kind: str, facts: dict[str, Any]) -> None:
        self._takers[kind](facts)

    def final(self) -> Final:
        return Final(self._observed, tuple(self._heads), tuple(self._logs))

    def _run(self, facts: dict[str, Any]) -> None:
        if facts["format"] != FORMAT:
            raise ValueError(f"format {facts['format']}; this version reads {FORMAT}")
        self.run = facts
        self.history.skipped = int(facts["skipped"])

    def _mailbox(self, facts: dict[str, Any]) -> None:
        copies = [Copy._make([*row[:-1], tuple(row[-1])]) for row in facts["copies"]]
        self._observed.setdefault(facts["node"], {})[facts["account"]] = copies


def _operation(facts: dict[str, Any]) -> Operation:
    return Operation(**facts | {"outcome": Outcome(facts["outcome"])})
