"""Every sighting of a mailbox's numbers in a history, in one form, whichever protocol showed them.

A sighting says what one node showed of one folder between two moments: its UIDVALIDITY, UIDNEXT and HIGHESTMODSEQ, and
whose message has which UID with which flags. Answers to writes (APPENDUID, COPYUID) are sightings of a single message.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from chaos.history import Operation
from chaos.observation import Observed
from chaos.workload.administration import DIGEST_DIGITS


class Shown(NamedTuple):
    """One message in a folder, as it was shown. `flags`: None where they were not."""

    uid: int
    identity: str
    flags: frozenset[str] | None


class FolderSighting(NamedTuple):
    """What one answer showed of a folder. 0 stands for a number that it did not show."""

    source: str  # for people
    node: str
    account: str
    folder: str
    began_s: float
    ended_s: float
    current: bool  # shows all that was acknowledged anywhere before it began
    whole: bool  # shows every message of the folder
    uidvalidity: int
    uidnext: int
    modseq: int
    messages: tuple[Shown, ...]


def folder_sightings(operations: Iterable[Operation], observed: Observed) -> list[FolderSighting]:
    """All of them, in the order in which they ended; the final observation last."""
    operations = list(operations)
    identities = {
        str(one.asked["sha256"])[:DIGEST_DIGITS]: str(one.asked["identity"])
        for one in operations
        if one.action in ("deliver", "append")
    }
    found = [seen for one in operations if one.acknowledged for seen in _of_operation(one, identities)]
    end_s = max((one.ended_s for one in operations), default=0.0)
    return found + list(_of_final(observed, end_s))


def _of_operation(one: Operation, identities: dict[str, str]) -> Iterator[FolderSighting]:
    match one.action:
        case "append" | "copy" | "move":
            folder = one.asked["folder"] if one.action == "append" else one.asked["target"]
            placed = Shown(one.result["uid"], one.asked["identity"], None)
            yield _sighting(one, folder, False, False, one.result["uidvalidity"], 0, 0, (placed,))
        case "read":
            messages = tuple(Shown(uid, identity, frozenset(flags)) for uid, identity, flags in one.result["messages"])
            numbers = one.result["uidvalidity"], one.result["uidnext"]
            yield _sighting(one, one.asked["folder"], False, one.result["first"] == 1, *numbers, 0, messages)
        case "mailbox":
            for name, facts in one.result["folders"].items():
                messages = tuple(
                    Shown(uid, identities.get(digest, f"sha256 {digest}"), frozenset(flags))
                    for uid, digest, flags in facts["messages"]
                )
                head = facts["uidvalidity"], facts["uidnext"], facts["highestmodseq"]
                yield _sighting(one, name, not one.result["stale"], True, *head, messages)


def _sighting(
    one: Operation,
    folder: str,
    current: bool,
    whole: bool,
    uidvalidity: int,
    uidnext: int,
    modseq: int,
    messages: tuple[Shown, ...],
) -> FolderSighting:
    source = f"{one.session} {one.action} #{one.number} at {one.ended_s:.3f} s"
    times = one.began_s, one.ended_s
    return FolderSighting(
        source, one.node, one.subject, folder, *times, current, whole, uidvalidity, uidnext, modseq, messages
    )


def _of_final(observed: Observed, end_s: float) -> Iterator[FolderSighting]:
    for node, holdings in observed.items():
        for account, copies in holdings.items():
            for folder, uidvalidity in sorted({(copy.folder, copy.uidvalidity) for copy in copies}):
                messages = tuple(
                    Shown(copy.uid, copy.identity, frozenset(copy.flags)) for copy in copies if copy.folder == folder
                )
                yield FolderSighting(
                    f"{node} in the end", node, account, folder, end_s, end_s, True, True, uidvalidity, 0, 0, messages
                )
