"""The shape of every benchmark's result, and the machine that it was measured on.

A figure without its machine says little: `machine.sha256` tells at a glance whether two results may be compared.
"""

import datetime
import hashlib
import json
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One measured figure. `note` says how it was measured."""

    name: str
    value: float
    unit: str
    higher_is_better: bool
    note: str = ""


def result(bench: str, rows: Iterable[Row]) -> dict[str, Any]:
    """What `--json` prints: bench, date (UTC, ISO 8601), machine, rows."""
    return {
        "bench": bench,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "rows": [row._asdict() | {"value": round(row.value, 3)} for row in rows],
    }


def as_text(document: dict[str, Any]) -> str:
    """The same for people."""
    about = document["machine"]
    lines = [
        f"{document['bench']}  {document['date']}  {about['cores']} x {about['cpu']}, Python {about['python']}",
        "",
    ]
    lines += [
        f"{row['value']:>12,.2f} {row['unit']:<10} {row['name']}  {row['note']}".rstrip() for row in document["rows"]
    ]
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Processor, cores, memory, kernel and Python of this machine, and a digest over all of them."""
    facts: dict[str, Any] = {
        "cpu": _line_of("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "memory_kib": int((_line_of("/proc/meminfo", "MemTotal") or "0").split()[0]),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return facts | {"sha256": digest}


def _line_of(path: str, key: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
