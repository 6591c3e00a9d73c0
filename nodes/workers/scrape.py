"""The metrics of a node and its workers in one text: counts add up, and of an outage the worst is shown.

What a worker had counted when it ended stays in the sums, so that no counter goes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import generate_latest
from prometheus_client.core import Metric

if TYPE_CHECKING:
    from nodes.metrics import Metrics

Labels = tuple[tuple[str, str], ...]
Samples = dict[tuple[str, str, Labels], float]  # by family, name and labels
Rows = list[tuple[str, str, Labels, float]]

ADDED_UP = frozenset({"mailraft_open_connections"})  # gauges of which each process has its part
THE_LEAST = frozenset({"mailraft_filter_up"})  # gauges that are down where one process finds them so
COUNTS = ("counter", "histogram")


def pack_samples(metrics: Metrics) -> Rows:
    """What of a worker's metrics the node shows."""
    return [
        (family.name, sample.name, tuple(sorted(sample.labels.items())), sample.value)
        for family in metrics.families()
        if family.type in COUNTS or family.name in ADDED_UP | THE_LEAST
        for sample in family.samples
    ]


def read_samples(rows: Iterable[tuple[str, str, Labels, float]]) -> Samples:
    return {(family, name, tuple(labels)): value for family, name, labels, value in rows}


def add(samples: Samples, others: Samples) -> None:
    """The sums of both, in the first; what is no count stays with who lives."""
    for key, value in others.items():
        if key[0] not in ADDED_UP | THE_LEAST:
            samples[key] = samples.get(key, 0.0) + value


def exposition(metrics: Metrics, workers: Iterable[Samples]) -> bytes:
    """The text that a Prometheus server reads, of the node and what its workers have counted."""
    return generate_latest(_Together(metrics, list(workers)))  # it asks for `collect` alone


class _Together:
    def __init__(self, metrics: Metrics, workers: list[Samples]) -> None:
        self._metrics = metrics
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        found: dict[str, dict[tuple[str, Labels], list[float]]] = {}
        for samples in self._workers:
            for (of, name, labels), value in samples.items():
                found.setdefault(of, {}).setdefault((name, labels), []).append(value)
        for family in self._metrics.families():
            yield _with(family, found.get(family.name, {}))


def _with(family: Metric, found: dict[tuple[str, Labels], list[float]]) -> Metric:
    if not found:
        return family
    whole = Metric(family.name, family.documentation, family.type, family.unit)
    combine = min if family.name in THE_LEAST else sum
    for sample in family.samples:
        others = found.pop((sample.name, tuple(sorted(sample.labels.items()))), [])
        whole.add_sample(sample.name, sample.labels, combine([sample.value, *others]))
    for (name, labels), values in found.items():
        whole.add_sample(name, dict(labels), combine(values))
    return whole
