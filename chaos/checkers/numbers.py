"""The numbers that clients build on: UIDs never reused and the same on every node, UIDVALIDITY stable, MODSEQ forward.

RFC 3501 2.3.1.1 (UIDs, UIDVALIDITY, UIDNEXT) and RFC 7162 3.1 (mod-sequences). One node never shows an older state than
it showed before, also after a restart; what is read behind a barrier is never older than what anybody was shown.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from chaos.checkers import Violation
from chaos.checkers.sightings import FolderSighting, Shown

Folder = tuple[str, str]


def by_folder(sightings: Iterable[FolderSighting]) -> dict[Folder, list[FolderSighting]]:
    found: dict[Folder, list[FolderSighting]] = defaultdict(list)
    for seen in sightings:
        found[seen.account, seen.folder].append(seen)
    return found


def check_uids(sightings: Iterable[FolderSighting]) -> list[Violation]:
    """A UID means one message for ever, a message has one UID in a folder, and UIDVALIDITY never changes."""
    violations: list[Violation] = []
    for (account, folder), seen in by_folder(sightings).items():
        where = f"{account} {folder}"
        violations += _stable_uidvalidity(where, seen)
        violations += _one_to_one(where, seen, lambda shown: shown.uid, lambda shown: shown.identity, "UID reused: UID")
        violations += _one_to_one(
            where, seen, lambda shown: shown.identity, lambda shown: shown.uid, "two UIDs for one message: attempt"
        )
        violations += _below_uidnext(where, seen)
    return violations


def _stable_uidvalidity(where: str, sightings: list[FolderSighting]) -> Iterator[Violation]:
    numbered = [seen for seen in sightings if seen.uidvalidity]
    for seen in numbered:
        first = numbered[0]
        if seen.uidvalidity != first.uidvalidity:
            text = f"{where} is {seen.uidvalidity} ({seen.source}) and was {first.uidvalidity} ({first.source})"
            yield Violation("uids", seen.node, f"UIDVALIDITY changed: {text}")
            return


def _one_to_one(
    where: str,
    sightings: list[FolderSighting],
    key: Callable[[Shown], str | int],
    value: Callable[[Shown], str | int],
    name: str,
) -> Iterator[Violation]:
    known: dict[str | int, tuple[str | int, FolderSighting]] = {}
    told: set[str | int] = set()
    for seen in sightings:
        for shown in seen.messages:
            was, first = known.setdefault(key(shown), (value(shown), seen))
            if was != value(shown) and key(shown) not in told:
                told.add(key(shown))
                text = f"{where} {name} {key(shown)} is {value(shown)} ({seen.source}), {was} ({first.source})"
                yield Violation("uids", seen.node, text)


def _below_uidnext(where: str, sightings: list[FolderSighting]) -> Iterator[Violation]:
    """Once UIDNEXT was shown as N, a message that comes later has N or more."""
    for seen in sightings:
        highest = max((shown.uid for shown in seen.messages), default=0)
        if seen.uidnext and highest >= seen.uidnext and seen.modseq:
            text = f"{where} UIDNEXT {seen.uidnext} is not above UID {highest} ({seen.source})"
            yield Violation("uids", seen.node, text)


def check_going_forward(sightings: Iterable[FolderSighting]) -> list[Violation]:
    """HIGHESTMODSEQ and UIDNEXT never go back, for anyone who looks at one node or reads behind a barrier."""
    violations: list[Violation] = []
    for (account, folder), seen in by_folder(sightings).items():
        where = f"{account} {folder}"
        for name, number in (("HIGHESTMODSEQ", _modseq), ("UIDNEXT", _uidnext)):
            numbered = [one for one in seen if number(one)]
            for node in sorted({one.node for one in numbered}):
                own = [one for one in numbered if one.node == node]
                violations += _never_back(f"{where} {name} at {node}", own, own, number)
            current = [one for one in numbered if one.current]
            violations += _never_back(f"{where} {name} behind a barrier", numbered, current, number)
    return violations


def _modseq(seen: FolderSighting) -> int:
    return seen.modseq


def _uidnext(seen: FolderSighting) -> int:
    return seen.uidnext


def _never_back(
    where: str, before: list[FolderSighting], after: list[FolderSighting], number: Callable[[FolderSighting], int]
) -> Iterator[Violation]:
    """The first of `after` that shows less than one of `before` that had ended when it began."""
    ended = sorted(before, key=lambda one: one.ended_s)
    highest: FolderSighting | None = None
    at = 0
    for seen in sorted(after, key=lambda one: one.began_s):
        while at < len(ended) and ended[at].ended_s < seen.began_s:
            if highest is None or number(ended[at]) > number(highest):
                highest = ended[at]
            at += 1
        if highest is not None and number(seen) < number(highest):
            text = f"{where} went back: {number(seen)} ({seen.source}) after {number(highest)} ({highest.source})"
            yield Violation("modseq", seen.node, text)
            return


def check_one_state_a_modseq(sightings: Iterable[FolderSighting]) -> list[Violation]:
    """A folder at one HIGHESTMODSEQ is one state: the same messages with the same flags, at any node, at any time."""
    violations: list[Violation] = []
    for (account, folder), all_seen in by_folder(sightings).items():
        first: dict[int, FolderSighting] = {}
        for seen in all_seen:
            if not (seen.whole and seen.modseq):
                continue
            known = first.setdefault(seen.modseq, seen)
            if known.messages != seen.messages:
                differ = sorted(set(known.messages) ^ set(seen.messages))[:4]
                shown = ", ".join(f"UID {one.uid} {one.identity} {sorted(one.flags or ())}" for one in differ)
                text = f"{account} {folder} at HIGHESTMODSEQ {seen.modseq}: {seen.source} and {known.source} differ"
                violations.append(Violation("modseq", seen.node, f"{text}: {shown}"))
    return violations
