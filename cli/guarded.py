"""A damaged page can end the process that reads it, inside LMDB: a command reads a node's database in a child.

The child is made before anything is opened and goes on as the command, on the same terminal; the process that was
called waits, ends as the child ends, and has a sentence for where it died.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

import click

from cli.groups import OWN_PROCESS
from cli.output import CommandError

DEATHS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)


def read_in_a_child(place: Path) -> None:
    """Returns in a child of this process, which is the command from here on. `place` is what it is about to read.

    The process itself does not come back: it raises CommandError if the child dies of what it read, and SystemExit
    with what the command ends with. Where the command is a part of another program, nothing happens.
    """
    context = click.get_current_context(silent=True)
    if context is None or not context.meta.pop(OWN_PROCESS, False):
        return
    from nodes.process import end_with_parent

    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        end_with_parent(parent)
    else:
        _end_like(child, place)


def _end_like(child: int, place: Path) -> None:
    def pass_on(number: int, _: FrameType | None) -> None:
        os.kill(child, number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's goes to both
    signal.signal(signal.SIGTERM, pass_on)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if -code in DEATHS:
        raise CommandError(
            f"{place}: its database is damaged: the process that read it died of {signal.Signals(-code).name}",
            f"mailraft log verify --data {place} names the first record that it can not read; the cell's other nodes "
            "have what this one had",
        )
    sys.exit(code if code >= 0 else 128 - code)
