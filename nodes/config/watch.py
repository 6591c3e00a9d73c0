"""Looks at the configuration file from time to time, and has it reloaded once it has changed and settled.

A file that is replaced whole has settled at the next look; one that is written in place while it is looked at is waited
for. What can not be read as a configuration changes nothing, and is tried again only when the file changes again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

Version = tuple[int, int, int] | None
LOOK_AGAIN_S = 1.0  # whether it is to be looked for now


class FileWatch:
    """Begins when it is made, on the event loop; `every_s` is asked each time, 0: do not look."""

    def __init__(self, path: Path, every_s: Callable[[], float], changed: Callable[[], None]) -> None:
        self._path = path
        self._every_s = every_s
        self._changed = changed
        self._told = version(path)
        self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _go_on(self) -> None:
        seen = self._told
        while True:
            every_s = self._every_s()
            await asyncio.sleep(every_s or LOOK_AGAIN_S)
            if not every_s:
                continue
            before, seen = seen, version(self._path)
            if seen is not None and seen == before and seen != self._told:
                self._told = seen
                self._changed()


def version(path: Path) -> Version:
    """What changes when the file does; None while there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
