"""The numbers of a report, counted once for all its forms: who got what when, and how long it took."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from chaos.checkers.service import longest_silence_s
from chaos.history import History, Operation, Outcome, percentile

BUCKET_S = 0.5
MOST_BUCKETS = 1500  # a longer run is counted by longer steps
KINDS = ("deliveries", "IMAP changes", "IMAP reads", "administration")
FAILURES = ("refused", "unknown")
PERCENTILES = (("p50_ms", 50.0), ("p95_ms", 95.0), ("p99_ms", 99.0), ("max_ms", 100.0))


class Throughput(NamedTuple):
    """Counts by step of `bucket_s`; `kinds` of what was acknowledged, `failures` of what was not."""

    bucket_s: float
    kinds: dict[str, list[int]]
    failures: dict[str, list[int]]

    @property
    def end_s(self) -> float:
        return self.bucket_s * max((len(counts) for counts in self.kinds.values()), default=0)


def kind_of(operation: Operation) -> str:
    """The row of the plot that an operation belongs to."""
    if operation.protocol == "smtp":
        return "deliveries"
    if operation.protocol == "admin":
        return "administration"
    return "IMAP reads" if operation.action in ("read", "fetch", "log-in") else "IMAP changes"


def throughput(history: History) -> Throughput:
    """By the time at which each operation ended."""
    end_s = max((one.ended_s for one in history.operations), default=0.0)
    bucket_s = BUCKET_S * max(1, math.ceil(end_s / BUCKET_S / MOST_BUCKETS))
    count = int(end_s / bucket_s) + 1
    kinds = {kind: [0] * count for kind in KINDS}
    failures = {outcome: [0] * count for outcome in FAILURES}
    for one in history.operations:
        row = kinds[kind_of(one)] if one.acknowledged else failures[one.outcome.value]
        row[int(one.ended_s / bucket_s)] += 1
    return Throughput(bucket_s, kinds, failures)


def latencies_ms(operations: Iterable[Operation]) -> dict[str, dict[str, float]]:
    """Percentiles of what was acknowledged, by action; how many there were is `count`."""
    taken: dict[str, list[float]] = defaultdict(list)
    for one in operations:
        if one.acknowledged:
            taken[one.action].append((one.ended_s - one.began_s) * 1000)
    return {
        action: {"count": len(values)} | {name: round(percentile(values, at), 1) for name, at in PERCENTILES}
        for action, values in sorted(taken.items())
    }


def outcomes(operations: Iterable[Operation]) -> dict[str, dict[str, int]]:
    """How many of each action ended how."""
    counts = Counter((one.action, one.outcome.value) for one in operations)
    actions = sorted({action for action, _ in counts})
    return {action: {outcome.value: counts[action, outcome.value] for outcome in Outcome} for action in actions}


def longest_silence(history: History) -> dict[str, float]:
    """The longest time in which no delivery was acknowledged, and when it began."""
    began_s, length_s = longest_silence_s(history)
    return {"began_s": round(began_s, 3), "length_s": round(length_s, 3)}


def failures_by_reply(operations: Iterable[Operation], most: int = 20) -> list[dict[str, Any]]:
    """The commonest words with which something was not done, so that a person sees what the outage looked like."""
    counts = Counter((one.protocol, one.outcome.value, one.reply[:120]) for one in operations if not one.acknowledged)
    return [
        {"protocol": protocol, "outcome": outcome, "reply": reply, "count": count}
        for (protocol, outcome, reply), count in counts.most_common(most)
    ]
