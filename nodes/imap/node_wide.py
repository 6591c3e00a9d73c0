"""What all sessions of a node, or of one of its workers, have in common, whichever listener they came through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from actors.custody import CUSTODY, LogRedacted, last_redaction
from nodes.imap.constants import Texts
from nodes.imap.scan_file import scan_file
from nodes.imap.scans import Scans
from nodes.imap.scans_ahead import ScansAhead
from nodes.imap.selected import RecentMarks
from nodes.imap.structures import StructureCache, structure_file

if TYPE_CHECKING:
    from pathlib import Path

    from eventlog.log import Applied, EventLog
    from nodes.services import Services


@dataclass(frozen=True)
class NodeWide:
    """One for each log that is open."""

    marks: RecentMarks
    structures: StructureCache
    scans: Scans
    scans_ahead: ScansAhead
    texts: Texts

    def clear(self, items: list[Applied]) -> None:
        """What is erased from the log goes from here, too."""
        for item in items:
            if isinstance(item.fact, LogRedacted):
                self.structures.clear(item.stamp.position)
                self.scans.clear(item.stamp.position)
                self.texts.clear()

    async def close(self) -> None:
        """A listener has gone; another goes on with what is there."""
        await self.scans_ahead.stop()
        await self.structures.close()
        await self.scans.close()


_BY_LOG: WeakKeyDictionary[EventLog, NodeWide] = WeakKeyDictionary()


def node_wide(services: Services) -> NodeWide:
    """What there is; the first time it is made, and hears from then on what the log says.

    A worker does not hear of everything, so it scans nothing ahead.
    """
    log = services.log
    found = _BY_LOG.get(log)
    if found is None:
        found = _BY_LOG[log] = _made(log, services.caches)
        if not services.worker:
            log.subscribe(None, found.scans_ahead.applied)
        log.subscribe(CUSTODY, found.clear)
    return found


def _made(log: EventLog, folder: Path) -> NodeWide:
    with log.snapshot() as snapshot:
        erased_at = last_redaction(snapshot.view(CUSTODY))
    structures = structure_file(folder, erased_at)
    file = scan_file(folder, erased_at)
    file.open()
    scans = Scans(log.subscribe, file=file, snapshot=log.snapshot)
    return NodeWide(RecentMarks(), StructureCache(file=structures), scans, ScansAhead(scans, log.snapshot), Texts())
