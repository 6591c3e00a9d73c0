"""No acknowledged message lost, doubled or altered; no refused one present; none that was never sent.

A message comes by a delivery or an APPEND. Where somebody asked to move, copy or expunge it, it may be elsewhere or
gone; whether it is where those operations leave it is for `chaos.checkers.mailbox`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from chaos.checkers import Violation
from chaos.history import Operation, Outcome
from chaos.observation import Copy, Observed

NAME = "delivery"
Places = Mapping[str, set[str]]  # by what was asked ("copy", "move", "expunge"): the folders to, or out of


def check_deliveries(operations: Iterable[Operation], observed: Observed) -> list[Violation]:
    """Compares every message that was ever sent with what every node holds for each of its recipients."""
    operations = list(operations)
    sent = {str(one.asked["identity"]): one for one in operations if one.action in ("deliver", "append")}
    transfers = _transfers(operations)
    violations: list[Violation] = []
    for node, holdings in observed.items():
        copies = {account: _by_identity(found) for account, found in holdings.items()}
        for identity, one in sent.items():
            for recipient in one.subject.split():
                if recipient in copies:
                    found = copies[recipient].get(identity, [])
                    asked = transfers.get((recipient, identity), {})
                    violations += [Violation(NAME, node, text) for text in _judge(one, recipient, found, asked)]
        for account, found in holdings.items():
            violations += [Violation(NAME, node, text) for text in _unasked(account, found, sent)]
    return violations + _differences(observed)


def _transfers(operations: list[Operation]) -> dict[tuple[str, str], dict[str, set[str]]]:
    """What may have moved, copied or removed a message, by (account, identity)."""
    found: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for one in operations:
        if one.action in ("copy", "move", "expunge") and one.may_have_happened:
            folder = one.asked["folder"] if one.action == "expunge" else one.asked["target"]
            found[one.subject, one.asked["identity"]][one.action].add(folder)
    return found


def _by_identity(copies: Iterable[Copy]) -> dict[str, list[Copy]]:
    found: dict[str, list[Copy]] = defaultdict(list)
    for copy in copies:
        found[copy.identity].append(copy)
    return found


def _judge(one: Operation, recipient: str, found: list[Copy], asked: Places) -> Iterator[str]:
    where = f"attempt {one.asked['identity']} for {recipient} ({one.outcome}: {one.reply}; {_when(one)})"
    match one.outcome:
        case Outcome.ACKNOWLEDGED if not found and "expunge" not in asked:
            yield f"lost: {where}"
        case Outcome.REFUSED if found:
            yield f"present though refused: {where}"
    for folder, count in Counter(copy.folder for copy in found).items():
        if count > 1:
            yield f"doubled ({count} copies in {folder}): {where}"
    for copy in found:
        if copy.sha256 != one.asked["sha256"]:
            yield f"altered: {where}"
        if not copy.trace_is_clean:
            yield f"something other than trace headers in front: {where}"
        if copy.folder != "INBOX" and all(copy.folder not in asked.get(how, ()) for how in ("copy", "move")):
            yield f"in {copy.folder}, where nobody put it: {where}"


def _when(one: Operation) -> str:
    return f"{one.session}, {one.began_s:.3f} to {one.ended_s:.3f} s"


def _unasked(account: str, found: list[Copy], sent: Mapping[str, Operation]) -> Iterator[str]:
    for copy in found:
        one = sent.get(copy.identity)
        if one is None:
            yield f"a message of no attempt in {account}: {copy.identity or copy.sha256}"
        elif account not in one.subject.split():
            yield f"misdelivered: attempt {copy.identity} is in {account}"


def _differences(observed: Observed) -> list[Violation]:
    """Nodes must hold the same, whatever the outcomes were: the same UIDs and flags too."""
    contents = {
        node: Counter((account, copy) for account, found in holdings.items() for copy in found)
        for node, holdings in observed.items()
    }
    violations: list[Violation] = []
    for node, content in contents.items():
        first = next(iter(contents))
        if content != contents[first]:
            fewer, more = contents[first] - content, content - contents[first]
            shown = ", ".join(_shown(*held) for held in [*fewer, *more][:4])
            text = f"differs from {first}: {fewer.total()} fewer, {more.total()} more ({shown})"
            violations.append(Violation(NAME, node, text))
    return violations


def _shown(account: str, copy: Copy) -> str:
    return f"{account} {copy.folder} UID {copy.uid} {copy.identity} ({' '.join(copy.flags)})"
