"""Long tasks over a node's database, in a process of their own: proof of the chain, a fold from zero, a look back,
a checkpoint for a new node; and for a node that has no database yet, fetching one.

`python -m nodes.jobs JOB PATH ...` reads the database of a running node (LMDB allows it) and prints JSON, or the bytes
of a segment or checkpoint, or writes beside it. It changes nothing of the node's.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from nodes.process import end_with_parent, tune_memory

Progress = Callable[[int, int], None]
OUTPUT_BYTES = 256 * 1024
MOST_SHOWN_BYTES = 256
MOST_LINE_BYTES = 64 * 1024 * 1024  # a record in hexadecimal, and what stands around it
PIPE_BYTES = 1 << 20
REPORT_S = 0.25


class JobFailed(Exception):
    """The process ended before it had done what it was for."""


@asynccontextmanager
async def started(job: str, path: Path, *arguments: str, limit_bytes: int = OUTPUT_BYTES) -> AsyncIterator[Process]:
    """The job's process, ended with the block if it has not ended before; what it prints waits beyond the limit."""
    root = str(Path(__file__).resolve().parent.parent)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "nodes.jobs", job, str(path), str(os.getpid()), *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        limit=limit_bytes,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


async def run(job: str, path: Path, *arguments: str) -> AsyncGenerator[bytes, None]:
    """The lines that the job prints, as they come; the last one is a result or an error."""
    async with started(job, path, *arguments, limit_bytes=MOST_LINE_BYTES) as process:
        assert process.stdout is not None
        ended_well = False
        async for line in process.stdout:
            ended_well = line.startswith((b'{"result"', b'{"error"'))
            yield line
        status = await process.wait()
        if not ended_well:
            yield _line({"error": f"the process that did it ended with status {status}"})


async def output(process: Process) -> bytes:
    """The next piece of what the job prints; empty at its end. Raises JobFailed if it ended badly."""
    assert process.stdout is not None
    data = await process.stdout.read(OUTPUT_BYTES)
    if not data and await process.wait() != 0:
        raise JobFailed(f"the process that reads the history ended with status {process.returncode}")
    return data


def checkpoint(path: Path, cell_id: str) -> None:
    """Prints a checkpoint of what the node has folded."""
    from eventlog.checkpoint import write_checkpoint
    from eventlog.store import open_for_reading

    tune_memory()
    with contextlib.suppress(OSError):  # not a pipe, or more than this user may have
        fcntl.fcntl(sys.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    with open_for_reading(path) as store:
        write_checkpoint(store, sys.stdout.buffer.write, cell_id=cell_id)
    sys.stdout.buffer.flush()


def join(path: Path, progress: Progress, *arguments: str) -> dict[str, Any]:
    """Makes this node's database from a checkpoint of another."""
    from nodes.joining import Source, fetch

    tune_memory()
    head = fetch(path, Source.from_arguments(arguments), seldom(progress))
    return {"position": head.position, "at_ms": head.at_ms, "chain": head.chain.hex()}


def seldom(progress: Progress) -> Progress:
    """The same, but for calls that come less than REPORT_S after the last one."""
    due_s = 0.0

    def report(done: int, total: int) -> None:
        nonlocal due_s
        now_s = time.monotonic()
        if now_s >= due_s:
            due_s = now_s + REPORT_S
            progress(done, total)

    return report


def verify(path: Path, progress: Progress, positions: str = "") -> dict[str, Any]:
    """Walks the log from the start and compares every chain hash; gives the chain at some positions, if asked."""
    from eventlog.verify import verify as walk

    report = walk(path, progress, [int(position) for position in positions.split(",") if position])
    return {
        "ok": report.ok,
        "records": report.records,
        "head": report.head.hex(),
        "first_bad": report.first_bad,
        "problems": list(report.problems),
        "redactions": report.redactions,
        "chains": {str(position): chain.hex() for position, chain in report.chains.items()},
    }


def records(path: Path, progress: Progress, wanted: str) -> dict[str, Any]:
    """Prints the records of a selection, a line each."""
    from eventlog.store import open_for_reading
    from nodes.log_selection import selected, selection
    from nodes.record_json import record_json

    printed = 0
    with open_for_reading(path) as store:
        with store.snapshot() as snapshot:
            chosen, position = selection(snapshot, json.loads(wanted)), snapshot.position
        for snapshot, stored in selected(store, chosen):
            _print({"record": record_json(snapshot, stored.position)})
            printed += 1
    return {"records": printed, "position": position}


def what_if(path: Path, progress: Progress, wanted: str) -> dict[str, Any]:
    """Prints what a rule would have changed, a line each; gives how much of each kind."""
    from eventlog.store import open_for_reading
    from nodes.log_selection import bounds, selection
    from nodes.what_if import read_rule
    from nodes.what_if import what_if as decide_again

    request = json.loads(wanted)
    counts: dict[str, int] = {}
    with open_for_reading(path) as store:
        with store.snapshot() as snapshot:
            first, last = bounds(snapshot, selection(snapshot, request["selection"]))
        for found in decide_again(store, read_rule(request["rule"]), first, last, progress):
            counts[found.what] = counts.get(found.what, 0) + 1
            _print({"difference": found._asdict()})
    return {"first": first, "last": last, "differences": counts}


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
        "first": [
            {"table": one.table, "key": one.key.hex(), "live": _row(one.live), "fresh": _row(one.fresh)}
            for one in report.first
        ],
        "digests": {name: digest.hex() for name, digest in report.digests.items()},
    }


def _row(value: bytes | None) -> str | None:
    """A stored row for people: in hexadecimal, and not all of a large one."""
    return None if value is None else value[:MOST_SHOWN_BYTES].hex()


def mailbox(path: Path, account: str, unit: str, moment: str) -> None:
    """Prints the mailbox of an account as of a position, or a time in ms."""
    from eventlog.replay import view_as_of
    from eventlog.store import open_for_reading
    from nodes.mailbox_json import mailbox_json
    from nodes.reading import folded_as_shown

    tune_memory()
    with open_for_reading(path) as store, store.snapshot() as snapshot:
        view = view_as_of(snapshot, bytes.fromhex(account), folded_as_shown(snapshot), **{unit: int(moment)})
    for piece in mailbox_json(view):
        sys.stdout.write(piece)


def past(path: Path, account: str, position: str, folder: str) -> None:
    """Writes the tables of an account as of a position to a database of their own."""
    from eventlog.past import write_past
    from eventlog.store import open_for_reading
    from nodes.reading import folded_as_shown

    tune_memory()
    with open_for_reading(path) as store, store.snapshot() as snapshot:
        write_past(snapshot, bytes.fromhex(account), folded_as_shown(snapshot), int(position), Path(folder))


def redaction(path: Path, progress: Progress, wanted: str) -> dict[str, Any]:
    """Finds what a redaction has to erase."""
    from eventlog.store import open_for_reading
    from nodes.redaction import Nothing, plan_apop, plan_event, plan_keys, plan_message
    from nodes.tenants.redaction import plan_tenant

    target = json.loads(wanted)
    with open_for_reading(path) as store:
        try:
            if "position" in target:
                plan = plan_event(store, target["position"], target["event"], progress)
            elif "dkim" in target:
                plan = plan_keys(store, target["dkim"], progress)
            elif "tenant" in target:
                plan = plan_tenant(store, bytes.fromhex(target["tenant"]), progress)
            elif "apop" in target:
                plan = plan_apop(store, target["apop"], progress)
            else:
                digest = bytes.fromhex(target.get("message") or target["body"])
                plan = plan_message(store, digest, "message" in target, progress)
        except Nothing as error:
            return {"nothing": str(error)}
    return {"plan": plan.packed().hex()}


def archive_plan(path: Path, progress: Progress, first: str, last: str, most_bytes: str) -> dict[str, Any]:
    """Cuts positions of the log into the segments of an archival."""
    from eventlog.archive_files import MOST_SEGMENTS, plan
    from eventlog.store import open_for_reading

    with open_for_reading(path) as store:
        found = plan(store, int(first), int(last), int(most_bytes), MOST_SEGMENTS)
    return {"segments": [(one.first, one.last, one.chain_before.hex(), one.chain_after.hex()) for one in found]}


def archive_verify(path: Path, progress: Progress) -> dict[str, Any]:
    """Reads every segment of the archive, and compares it with the chain in the database."""
    from eventlog.archive_files import damaged
    from eventlog.store import open_for_reading

    with open_for_reading(path) as store:
        with store.env.begin() as txn:
            segments = store.archive.segments(txn, store.db)
        found = [
            {"first": one.segment.first, "last": one.segment.last, "problem": str(one)}
            for one in damaged(store, progress)
        ]
    return {"segments": len(segments), "last": segments[-1].last if segments else 0, "damaged": found}


def segment(path: Path, cell: str, first: str, last: str, most_bytes: str) -> None:
    """Prints the positions from `first` on as one segment: to `last`, or until it holds so many bytes."""
    from eventlog.backup import StoreFeed
    from eventlog.segments import SegmentEncoder
    from eventlog.store import open_for_reading

    tune_memory()
    with open_for_reading(path) as store:
        header, found = StoreFeed(store, cell, int(most_bytes)).segment(int(first), int(last))
        encoder = SegmentEncoder(sys.stdout.buffer.write, header)
        try:
            for record in found:
                encoder.add(record)
            encoder.finish()
        finally:
            encoder.close()
    sys.stdout.buffer.flush()


def tables(path: Path, cell: str) -> None:
    """Prints the tables of the node as of now, for a backup."""
    from eventlog.backup_tables import TablesEncoder, tables_of
    from eventlog.store import open_for_reading

    tune_memory()
    with open_for_reading(path) as store, tables_of(store, cell) as (head, rows):
        with contextlib.closing(TablesEncoder(sys.stdout.buffer.write, head)) as encoder:
            for row in rows:
                encoder.add(row)
            encoder.finish()
    sys.stdout.buffer.flush()


def fulltext(
    path: Path, progress: Progress, root: str, mode: str, linger_s: str, poll_s: str, niceness: str
) -> dict[str, Any]:
    """Makes the full-text index follow the log until nothing comes any more; with `mode` rebuild, first all anew."""
    from nodes.fulltext.indexer import Indexer, keep_up

    os.setpriority(os.PRIO_PROCESS, 0, max(int(niceness), os.getpriority(os.PRIO_PROCESS, 0)))
    tune_memory()
    indexer = Indexer(path, Path(root), lambda: _print({"committed": True}))
    if mode == "rebuild":
        indexer.rebuild(seldom(progress))
        _print({"rebuilt": True})
    keep_up(indexer, seldom(progress), float(linger_s), float(poll_s))
    return {"position": indexer.stamp.done.position}


QUIET: dict[str, Callable[..., None]] = {  # their output, if any, is no JSON lines
    "checkpoint": checkpoint,
    "mailbox": mailbox,
    "past": past,
    "segment": segment,
    "tables": tables,
}
JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    "archive-plan": archive_plan,
    "archive-verify": archive_verify,
    "fulltext": fulltext,
    "join": join,
    "rebuild": rebuild,
    "records": records,
    "verify": verify,
    "what-if": what_if,
    "redaction": redaction,
}


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _print(value: Any) -> None:
    sys.stdout.buffer.write(_line(value))
    sys.stdout.buffer.flush()


def main(arguments: list[str]) -> None:
    """Runs one job for the node whose process id is the third argument."""
    job, path, parent, *rest = arguments
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what it wrote beside the node is removed
    end_with_parent(int(parent))
    if job in QUIET:
        QUIET[job](Path(path), *rest)
        return
    try:
        result = JOBS[job](Path(path), lambda done, total: _print({"progress": [done, total]}), *rest)
    except Exception as error:
        _print({"error": f"{type(error).__name__}: {error}"})
    else:
        _print({"result": result})


if __name__ == "__main__":
    main(sys.argv[1:])
