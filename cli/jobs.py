"""Jobs of a node, which answer in JSON lines: progress while they last, then a result or an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli.options import open_client
from cli.output import FAILED, CommandError, console

Update = Callable[[int, int], None]


@contextmanager
def progress_bar(what: str) -> Iterator[Update]:
    """A bar on a terminal, nothing elsewhere. Gives what is told how much is done, of how much."""
    from rich.progress import Progress

    terminal = console()
    with Progress(console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def result_of(
    last: dict[str, Any],
    after_error: str = "the node's log tells more",
    again: str = "the command again",
    unfinished_code: int = FAILED,
) -> dict[str, Any]:
    """What the last line of a job says. Raises CommandError, with a hint, for an error and where there is no result."""
    if "error" in last:
        raise CommandError(last["error"], after_error)
    if "result" not in last:
        raise CommandError("the node stopped before it was done", again, unfinished_code)
    result: dict[str, Any] = last["result"]
    return result


def run_job(cluster_dir: Path, path: str, node: str | None, what: str) -> dict[str, Any]:
    """A job of a node, to its end. Raises CommandError."""
    last: dict[str, Any] = {}
    with progress_bar(what) as update:
        for last in open_client(cluster_dir).stream(path, node):  # to their end: the node would take less for a failure
            if "progress" in last:
                update(*last["progress"])
    return result_of(last)
