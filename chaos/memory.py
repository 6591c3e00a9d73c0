"""How much memory the nodes' processes hold while a run lasts, sampled from the kernel into the history."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from chaos.history import Footprint
from chaos.site import Site

INTERVAL_S = 5.0


def anonymous_kib(pid: int) -> int | None:
    """RssAnon of a process (proc(5)) in KiB; None when it has gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), None)


@dataclass
class MemoryWatch:
    """Samples every node's process every few seconds."""

    site: Site

    async def run(self) -> None:
        """Until it is cancelled."""
        history = self.site.history
        while True:
            for node in self.site.names:
                pid = await asyncio.to_thread(self.site.pid, node)
                held_kib = None if pid is None else anonymous_kib(pid)
                if pid is not None and held_kib is not None:
                    history.footprints.append(Footprint(history.now_s(), node, pid, held_kib))
            await asyncio.sleep(INTERVAL_S)
