"""What a scan of a mailbox found, kept for who selects it next: UIDs, and the flags of each, in six bytes a message.

Whatever changes a message raises the HIGHESTMODSEQ of its folder in the same record (actors/mailbox_fold.py), so a scan
is good as long as that is what it was. Only a scan during which it stood still is kept. It holds no text of messages.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actors.mailbox import Message

KEPT_BYTES = 32 * 1024 * 1024
LEAST_MESSAGES = 500  # fewer are scanned as soon as they are looked up
MOST_FLAG_SETS = 1 << 14
MESSAGE_BYTES = 6
SET_BYTES = 500

Flags = tuple[str, ...]


class Scan:
    """The messages of a folder by UID, ascending, gathered slice by slice. Afterwards nobody changes it."""

    def __init__(self) -> None:
        self.uids: array[int] = array("I")
        self.is_whole = True  # whether it can tell the flags of each message
        self.first_unseen = 0  # sequence number, 0 for none
        self.flag_sets: dict[Flags, int] = {}
        self._flags: array[int] = array("H")

    def take(self, rows: Iterable[Message]) -> None:
        """The next messages."""
        sets, uids, flags = self.flag_sets, self.uids, self._flags
        for row in rows:
            uids.append(row.uid)
            which = sets.get(row.flags)
            if which is None:
                which = self._new(row.flags)
            flags.append(which)
            if not self.first_unseen and "\\Seen" not in row.flags:
                self.first_unseen = len(uids)

    def _new(self, flags: Flags) -> int:
        if len(self.flag_sets) >= MOST_FLAG_SETS:
            self.is_whole = False
            return 0
        return self.flag_sets.setdefault(flags, len(self.flag_sets))

    @property
    def size_bytes(self) -> int:
        return MESSAGE_BYTES * len(self.uids) + SET_BYTES * len(self.flag_sets)

    def rendered(self, numbers: Iterable[int], render: Callable[[Flags], bytes]) -> list[bytes]:
        """The flags of the messages of these sequence numbers; `render` is asked once for each set of them."""
        texts, flags = list(map(render, self.flag_sets)), self._flags
        return [texts[flags[number - 1]] for number in numbers]


class Scans:
    """Scans by account and folder, least recently used out first."""

    def __init__(self, limit_bytes: int = KEPT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._used_bytes = 0
        self._kept: OrderedDict[tuple[bytes, bytes], tuple[int, Scan]] = OrderedDict()

    def get(self, account: bytes, folder: bytes, modseq: int) -> Scan | None:
        """The scan of a folder whose HIGHESTMODSEQ is `modseq` now."""
        kept = self._kept.get((account, folder))
        if kept is None or kept[0] != modseq:
            return None
        self._kept.move_to_end((account, folder))
        return kept[1]

    def keep(self, account: bytes, folder: bytes, modseq: int, scan: Scan) -> None:
        """`modseq`: before the scan and after it."""
        before = self._kept.pop((account, folder), None)
        if before is not None:
            self._used_bytes -= before[1].size_bytes
        if len(scan.uids) < LEAST_MESSAGES or not scan.is_whole or scan.size_bytes > self._limit_bytes:
            return
        self._kept[account, folder] = modseq, scan
        self._used_bytes += scan.size_bytes
        while self._used_bytes > self._limit_bytes:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._used_bytes -= dropped.size_bytes
