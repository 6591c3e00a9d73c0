"""Long tasks over a node's database, in a process of their own: proof of the chain, a fold from zero.

`python -m nodes.jobs verify|rebuild PATH` reads the database of a running node (LMDB allows it) and
prints lines of JSON. It changes nothing of the node's.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from nodes.process import end_with_parent

Progress = Callable[[int, int], None]


async def run(job: str, path: Path) -> AsyncIterator[bytes]:
    """The lines that the job prints, as they come; the last one is a result or an error."""
    root = str(Path(__file__).resolve().parent.parent)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "nodes.jobs", job, str(path), str(os.getpid())),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)},
    )
    assert process.stdout is not None
    ended_well = False
    try:
        async for line in process.stdout:
            ended_well = not line.startswith(b'{"progress"')
            yield line
        status = await process.wait()
        if not ended_well:
            yield _line({"error": f"the process that did it ended with status {status}"})
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def verify(path: Path, progress: Progress) -> dict[str, Any]:
    """Walks the log from the start and compares every chain hash."""
    from eventlog.verify import verify as walk

    report = walk(path, progress)
    return {
        "ok": report.ok,
        "records": report.records,
        "head": report.head.hex(),
        "first_bad": report.first_bad,
        "problems": list(report.problems),
    }


def rebuild(path: Path, progress: Progress) -> dict[str, Any]:
    """Folds the log from zero into fresh tables and compares them with the ones that are served."""
    from actors.registry import fold_event
    from eventlog.rebuild import rebuild as fold_again

    report = fold_again(path, fold_event, progress)
    return {
        "equal": report.equal,
        "positions": report.positions,
        "events": report.events,
        "seconds": round(report.seconds, 3),
        "differing": list(report.differing),
    }


JOBS: dict[str, Callable[[Path, Progress], dict[str, Any]]] = {"verify": verify, "rebuild": rebuild}


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _print(value: Any) -> None:
    sys.stdout.buffer.write(_line(value))
    sys.stdout.buffer.flush()


def main(arguments: list[str]) -> None:
    """Runs one job for the node whose process id is the last argument."""
    job, path, parent = arguments
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what it wrote beside the node is removed
    end_with_parent(int(parent))
    try:
        result = JOBS[job](Path(path), lambda done, total: _print({"progress": [done, total]}))
    except Exception as error:
        _print({"error": f"{type(error).__name__}: {error}"})
    else:
        _print({"result": result})


if __name__ == "__main__":
    main(sys.argv[1:])
