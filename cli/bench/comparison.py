"""Two results of one benchmark, row by row: what became faster, what became slower, and by how much."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple


class CompareError(Exception):
    """A file is no benchmark result, or the two are of different benchmarks."""


class Comparison(NamedTuple):
    """One row in both results. `gain` is how many times as good it is now: above 1 is better, whatever the unit."""

    name: str
    unit: str
    old: float
    new: float
    gain: float

    def is_worse(self, tolerance: float) -> bool:
        return self.gain < 1 - tolerance


def load(path: Path) -> dict[str, Any]:
    """A result file. Raises CompareError."""
    try:
        document = json.loads(path.read_text())
        if not isinstance(document["bench"], str):
            raise TypeError("bench must be a name")
        for row in document["rows"]:
            float(row["value"])
            str(row["name"]), str(row["unit"]), bool(row["higher_is_better"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CompareError(f"{path}: not a benchmark result: {error}") from error
    return dict(document)


def compare(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[Comparison], list[str]]:
    """The rows that both have, and the names that the new one lacks. Raises CompareError for different benchmarks."""
    if old["bench"] != new["bench"]:
        raise CompareError(f"a result of {old['bench']!r} can not be compared with one of {new['bench']!r}")
    now = {row["name"]: row for row in new["rows"]}
    return list(_compared(old["rows"], now)), [row["name"] for row in old["rows"] if row["name"] not in now]


def _compared(before: list[dict[str, Any]], now: dict[str, dict[str, Any]]) -> Iterator[Comparison]:
    for row in before:
        if (other := now.get(row["name"])) is None:
            continue
        old, new = float(row["value"]), float(other["value"])
        better, worse = (new, old) if row["higher_is_better"] else (old, new)
        gain = better / worse if worse else (1.0 if not better else float("inf"))
        yield Comparison(row["name"], row["unit"], old, new, gain)


def same_machine(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether both were measured on machines with the same facts."""
    return bool(old.get("machine", {}).get("sha256") == new.get("machine", {}).get("sha256"))
