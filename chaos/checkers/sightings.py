"""Every sighting of a mailbox's numbers in a history, in one form, whichever protocol showed them.

A sighting says what one node showed of one folder between two moments: its UIDVALIDITY, UIDNEXT and HIGHESTMODSEQ, and
whose message has which UID with which flags. Answers to writes (APPENDUID, COPYUID) are sightings of a single message.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from chaos.history import Facts, Operation
from chaos.observation import Observed
from chaos.workload.administration import DIGEST_DIGITS
from chaos.workload.book import FOLDERS

MOMENT_S = 0.001  # the final observation comes after all else


class Shown(NamedTuple):
    """One message in a folder, as it was shown. `flags`: None where they were not."""

    uid: int
    identity: str
    flags: frozenset[str] | None


class FolderSighting(NamedTuple):
    """What one answer showed of a folder. 0 stands for a number that it did not show."""

    source: str  # for people; what one answer showed has one source
    kind: str  # "answer" to a write, "folder", or "mailbox": all folders at one moment
    node: str
    account: str
    folder: str
    began_s: float
    ended_s: float
    current: bool  # shows all that was acknowledged anywhere before it began
    uidvalidity: int = 0
    uidnext: int = 0
    modseq: int = 0
    first: int = 1  # the first UID that it would show
    messages: tuple[Shown, ...] = ()

    @property
    def whole(self) -> bool:
        return self.kind != "answer" and self.first == 1


def folder_sightings(operations: Iterable[Operation], observed: Observed) -> list[FolderSighting]:
    """All of them, in the order in which they ended; the final observation last."""
    operations = list(operations)
    identities = {
        str(one.asked["sha256"])[:DIGEST_DIGITS]: str(one.asked["identity"])
        for one in operations
        if one.action in ("deliver", "append")
    }
    found = [seen for one in operations if one.acknowledged for seen in _of_operation(one, identities)]
    end_s = max((one.ended_s for one in operations), default=0.0) + MOMENT_S
    return found + list(_of_final(observed, end_s))


def _of_operation(one: Operation, identities: dict[str, str]) -> Iterator[FolderSighting]:
    match one.action:
        case "append" | "copy" | "move":
            folder = one.asked["folder"] if one.action == "append" else one.asked["target"]
            placed = Shown(one.result["uid"], one.asked["identity"], None)
            yield _sighting(one, "answer", folder)._replace(uidvalidity=one.result["uidvalidity"], messages=(placed,))
        case "read":
            numbers = {name: one.result[name] for name in ("uidvalidity", "uidnext", "first")}
            messages = tuple(Shown(uid, identity, frozenset(flags)) for uid, identity, flags in one.result["messages"])
            yield _sighting(one, "folder", one.asked["folder"])._replace(**numbers, messages=messages)
        case "mailbox":
            for name in sorted({*FOLDERS, *one.result["folders"]}):
                seen = _sighting(one, "mailbox", name)._replace(current=not one.result["stale"])
                yield _filled(seen, one.result["folders"].get(name), identities)


def _filled(seen: FolderSighting, facts: Facts | None, identities: dict[str, str]) -> FolderSighting:
    """A folder that is not among the facts was never used."""
    if facts is None:
        return seen
    return seen._replace(
        uidvalidity=facts["uidvalidity"],
        uidnext=facts["uidnext"],
        modseq=facts["highestmodseq"],
        messages=tuple(
            Shown(uid, identities.get(digest, f"sha256 {digest}"), frozenset(flags))
            for uid, digest, flags in facts["messages"]
        ),
    )


def _sighting(one: Operation, kind: str, folder: str) -> FolderSighting:
    source = f"{one.session} {one.action} #{one.number} at {one.ended_s:.3f} s"
    return FolderSighting(source, kind, one.node, one.subject, folder, one.began_s, one.ended_s, current=False)


def _of_final(observed: Observed, end_s: float) -> Iterator[FolderSighting]:
    for node, holdings in observed.items():
        for account, copies in holdings.items():
            for folder in FOLDERS:
                own = [copy for copy in copies if copy.folder == folder]
                yield FolderSighting(
                    f"{node} in the end",
                    "mailbox",
                    node,
                    account,
                    folder,
                    end_s,
                    end_s,
                    current=True,
                    uidvalidity=own[0].uidvalidity if own else 0,
                    messages=tuple(Shown(copy.uid, copy.identity, frozenset(copy.flags)) for copy in own),
                )
