"""Reads ranges of a database in processes of their own: a damaged page can end the process that meets it, inside LMDB.

All cores share the ranges first. Where a process dies, what is left is read again, a range at a time, by one that notes
in a file which position it is about to read: so the death has a position, and the reading goes on behind it.
"""

import contextlib
import mmap
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple, TypeVar

from eventlog.store import POSITION

MOST_DEATHS = 5  # what is behind the last one is not read

S = TypeVar("S")
T = TypeVar("T")


class Task(NamedTuple):
    """Positions `first` to `last` of the database in a folder; `mark` is the file for what is about to be read."""

    path: str
    first: int
    last: int
    at: tuple[int, ...] = ()
    mark: str = ""
    purge: tuple[int, int] | None = None  # of eventlog.verify_indexes


class Mark:
    """Where a reader is, for who finds it dead. Without a file nothing is noted."""

    def __init__(self, path: str) -> None:
        self._map: mmap.mmap | None = None
        if path:
            with open(path, "r+b") as file:
                self._map = mmap.mmap(file.fileno(), POSITION.size)

    def about_to_read(self, position: int) -> None:
        if self._map is not None:
            POSITION.pack_into(self._map, 0, position)


def alone(work: Callable[[S], T], task: S) -> T:
    """What `work` gives, from a process of its own. Raises BrokenProcessPool if that dies, and what `work` raises."""
    with _pool(1) as pool:
        return pool.submit(work, task).result()


def survived(work: Callable[[Task], T], tasks: Sequence[Task], died: Callable[[int], T]) -> Iterator[tuple[int, T]]:
    """The last position and the result of each task, in order; for a position that ended its reader, what `died` gives.

    `work` is a function of a module, which says to a `Mark` what it is about to read. Raises what `work` raises.
    """
    done = 0
    try:
        with _pool(min(os.cpu_count() or 1, len(tasks))) as pool:
            for result in pool.map(work, tasks):
                done += 1
                yield tasks[done - 1].last, result
    except BrokenProcessPool:
        yield from _one_by_one(work, list(tasks[done:]), died)


def _one_by_one(work: Callable[[Task], T], tasks: list[Task], died: Callable[[int], T]) -> Iterator[tuple[int, T]]:
    deaths = 0
    while tasks and deaths < MOST_DEATHS:
        task = tasks.pop(0)
        with tempfile.NamedTemporaryFile() as file:
            file.write(POSITION.pack(task.first))
            file.flush()
            try:
                yield task.last, alone(work, task._replace(mark=file.name))
            except BrokenProcessPool:
                deaths += 1
                (position,) = POSITION.unpack_from(_bytes_of(file.name))
                if position > task.first:
                    with contextlib.suppress(BrokenProcessPool):
                        yield position - 1, alone(work, task._replace(last=position - 1))
                yield position, died(position)
                if position < task.last:
                    tasks.insert(0, task._replace(first=position + 1))


def _bytes_of(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _pool(processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
