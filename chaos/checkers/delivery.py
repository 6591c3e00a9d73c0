"""No acknowledged message lost, doubled or altered; no refused one present; none that was never sent."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from chaos.checkers import Violation
from chaos.history import Attempt, Outcome
from chaos.observation import Copy, Observed

NAME = "delivery"


def check_deliveries(attempts: Iterable[Attempt], observed: Observed) -> list[Violation]:
    """Compares every attempt with what every node holds for each of its recipients."""
    attempts = list(attempts)
    known = {attempt.identity: attempt for attempt in attempts}
    violations: list[Violation] = []
    for node, holdings in observed.items():
        copies = {account: _by_identity(found) for account, found in holdings.items()}
        for attempt in attempts:
            for recipient in attempt.recipients:
                found = copies.get(recipient, {}).get(attempt.identity, [])
                violations += [Violation(NAME, node, text) for text in _judge(attempt, recipient, found)]
        for account, found in holdings.items():
            violations += [Violation(NAME, node, text) for text in _unasked(account, found, known)]
    return violations + _differences(observed)


def _by_identity(copies: Iterable[Copy]) -> dict[str, list[Copy]]:
    found: dict[str, list[Copy]] = defaultdict(list)
    for copy in copies:
        found[copy.identity].append(copy)
    return found


def _judge(attempt: Attempt, recipient: str, found: list[Copy]) -> Iterator[str]:
    where = f"attempt {attempt.identity} for {recipient} ({attempt.outcome}: {attempt.reply})"
    match attempt.outcome:
        case Outcome.ACKNOWLEDGED if not found:
            yield f"lost: {where}"
        case Outcome.REFUSED if found:
            yield f"present though refused: {where}"
    if len(found) > 1:
        yield f"doubled ({len(found)} copies): {where}"
    for copy in found:
        if copy.sha256 != attempt.sha256:
            yield f"altered: {where}"
        if not copy.trace_is_clean:
            yield f"something other than trace headers in front: {where}"


def _unasked(account: str, found: list[Copy], known: dict[str, Attempt]) -> Iterator[str]:
    for copy in found:
        attempt = known.get(copy.identity)
        if attempt is None:
            yield f"a message of no attempt in {account}: {copy.identity or copy.sha256}"
        elif account not in attempt.recipients:
            yield f"misdelivered: attempt {copy.identity} is in {account}"


def _differences(observed: Observed) -> list[Violation]:
    """Nodes must hold the same, whatever the outcomes were."""
    contents = {
        node: Counter((account, copy) for account, found in holdings.items() for copy in found)
        for node, holdings in observed.items()
    }
    violations: list[Violation] = []
    for node, content in contents.items():
        first = next(iter(contents))
        if content != contents[first]:
            missing, surplus = (contents[first] - content).total(), (content - contents[first]).total()
            violations.append(Violation(NAME, node, f"differs from {first}: {missing} fewer, {surplus} more"))
    return violations
