"""Liveness: however the faults were, some node took mail again soon enough."""

import itertools

from chaos.checkers import Violation
from chaos.history import History


def longest_silence_s(history: History) -> tuple[float, float]:
    """(when it began, how long it lasted): the longest time in which no mail was acknowledged anywhere."""
    answers = sorted(delivery.ended_s for delivery in history.deliveries if delivery.acknowledged)
    last_s = max((delivery.ended_s for delivery in history.deliveries), default=0.0)
    moments = [0.0, *answers, last_s]
    silences = [(after - before, before) for before, after in itertools.pairwise(moments)]
    length_s, began_s = max(silences)
    return began_s, length_s


def check_service(history: History, at_most_s: float) -> list[Violation]:
    """No silence was longer than that."""
    began_s, length_s = longest_silence_s(history)
    if length_s <= at_most_s:
        return []
    text = (
        f"no mail was acknowledged for {length_s:.1f} s from {began_s:.1f} s on; at most {at_most_s:.0f} s is allowed"
    )
    return [Violation("service", "", text)]
