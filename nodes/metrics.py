"""What a node counts, in a Prometheus registry of its own (several nodes may share a test process).

Labels come from small closed sets only (protocols, known commands, outcomes): never an address, a
login or anything else that a client can choose.
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar, cast, overload

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import Metric

from nodes.errors.registry import REGISTRY, kind_of

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
ROLES = ("leader", "follower", "candidate", "learner", "quarantined")
_PROPOSE_BUCKETS_S = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_FILTER_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_DELIVERY_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


M = TypeVar("M", Counter, Gauge, Histogram)


class _Declared(Generic[M]):
    """One metric of the class that it stands in: each instance has its own, under the same name."""

    def __init__(self, kind: type[M], name: str, text: str, labels: Sequence[str] = (), **more: Any) -> None:
        self._make: Callable[..., M] = partial(kind, name, text, labels, **more)

    def __set_name__(self, owner: type, attribute: str) -> None:
        self._attribute = attribute

    def register(self, metrics: Metrics) -> None:
        """Makes it in the registry of `metrics`."""
        vars(metrics)[self._attribute] = self._make(registry=metrics.registry)

    @overload
    def __get__(self, metrics: None, owner: type) -> _Declared[M]: ...
    @overload
    def __get__(self, metrics: Metrics, owner: type) -> M: ...
    def __get__(self, metrics: Metrics | None, owner: type) -> _Declared[M] | M:
        return self if metrics is None else cast(M, vars(metrics)[self._attribute])


class Metrics:
    """The node's metrics. A protocol label is the listener's kind: "smtp", "submission", "imaps" ..."""

    node_info = _Declared(Gauge, "mailraft_node_info", "1; the label says which node this is.", ["node"])
    connections = _Declared(Gauge, "mailraft_open_connections", "Open client connections.", ["protocol"])
    connections_total = _Declared(
        Counter,
        "mailraft_connections_total",
        "Client connections, by what became of them at the door.",
        ["protocol", "outcome"],
    )
    commands_total = _Declared(Counter, "mailraft_commands_total", "Client commands.", ["protocol", "command"])
    deliveries_total = _Declared(
        Counter,
        "mailraft_deliveries_total",
        "Messages offered, by protocol and outcome (committed, refused, unknown).",
        ["protocol", "outcome"],
    )
    errors_total = _Declared(
        Counter,
        "mailraft_errors_total",
        "Refusals and failures, by code (docs/reference/errors.md), category and severity.",
        ["code", "category", "severity"],
    )
    auth_failures_total = _Declared(
        Counter,
        "mailraft_auth_failures_total",
        "Logins that failed, by SASL mechanism (or LOGIN, USER) and reason (wrong, malformed; blocked, overloaded, "
        "away: nothing was checked; suspended, limited: they were right, and the account or its tenant is not "
        "served, or is at a limit).",
        ["protocol", "mechanism", "reason"],
    )
    judged_total = _Declared(
        Counter, "mailraft_judged_total", "Messages from elsewhere, by what DMARC says of them.", ["dmarc"]
    )
    policy_refused_total = _Declared(
        Counter,
        "mailraft_policy_refused_total",
        "Connections, commands, recipients and messages that policy refused, by what refused them (blocklist, "
        "greylist, client rate, account rate, tenant rate, spam; account or tenant sessions, logins), refusals "
        "that were held back (tarpit), and answers that were (account or tenant bytes).",
        ["reason"],
    )
    dns_list_answers_total = _Declared(
        Counter,
        "mailraft_dns_list_answers_total",
        "Answers about clients by the DNS lists of the configuration (listed, not listed, failed).",
        ["list", "answer"],
    )
    filter_answers_total = _Declared(
        Counter,
        "mailraft_filter_answers_total",
        "Messages and recipients that a filter was to be asked about, by what came of it (accept, junk, reject, "
        "tempfail; down, busy: it could not be asked; large: the message is over its limit).",
        ["filter", "outcome"],
    )
    filter_seconds = _Declared(
        Histogram,
        "mailraft_filter_seconds",
        "Time that asking a filter took, answered or not, in seconds.",
        ["filter"],
        buckets=_FILTER_BUCKETS_S,
    )
    filter_up = _Declared(Gauge, "mailraft_filter_up", "1 while the filter answers, 0 while it does not.", ["filter"])
    propose_seconds = _Declared(
        Histogram,
        "mailraft_propose_seconds",
        "Time from a command to its outcome, in seconds.",
        ["outcome"],
        buckets=_PROPOSE_BUCKETS_S,
    )
    raft_role = _Declared(Gauge, "mailraft_raft_role", "1 for the role that the node has.", ["role"])
    raft_term = _Declared(Gauge, "mailraft_raft_term", "Current Raft term.")
    raft_commit = _Declared(Gauge, "mailraft_raft_commit", "Last position known to be committed.")
    raft_applied = _Declared(Gauge, "mailraft_raft_applied", "Last position folded into the tables.")
    fold_lag = _Declared(Gauge, "mailraft_fold_lag", "Committed positions that are not folded yet.")
    disk_free_bytes = _Declared(Gauge, "mailraft_disk_free_bytes", "Free space of the database's disk, in bytes.")
    accepting_mail = _Declared(Gauge, "mailraft_accepting_mail", "1 while the node takes mail, 0 while it refuses it.")
    part_up = _Declared(
        Gauge,
        "mailraft_part_up",
        "0 while a part of the node is down (docs/operations.md has the parts), else 1.",
        ["part", "critical"],
    )
    config_reloads = _Declared(
        Counter,
        "mailraft_config_reloads_total",
        "Reloads of the configuration, by outcome (changed, unchanged, refused).",
        ["outcome"],
    )
    config_restart_due = _Declared(
        Gauge, "mailraft_config_restart_due", "Keys that were changed and hold only after a restart of the node."
    )
    signed_position = _Declared(
        Gauge, "mailraft_signed_head_position", "Position of the newest head that this node has signed."
    )
    signed_at_seconds = _Declared(
        Gauge, "mailraft_signed_head_time_seconds", "When this process signed its newest head (Unix time)."
    )
    archived_position = _Declared(
        Gauge, "mailraft_archived_position", "Last position of the log that is in a segment file here."
    )
    following_connected = _Declared(
        Gauge,
        "mailraft_following_connected",
        "1 while what is followed of another cell comes in; on the node that pulls it.",
        ["subscription"],
    )
    following_lag_records = _Declared(
        Gauge,
        "mailraft_following_lag_records",
        "Entries of the source's log that are not followed yet.",
        ["subscription"],
    )
    following_lag_seconds = _Declared(
        Gauge,
        "mailraft_following_lag_seconds",
        "How much older the replica is than its source, in seconds.",
        ["subscription"],
    )
    certificate_expiry = _Declared(
        Gauge,
        "mailraft_certificate_expiry_timestamp_seconds",
        "When the first certificate of a kind expires, in seconds since 1970; 0 where there is none. Kinds: the "
        "cell's authority, another that is trusted beside it (other_authority), this node's, the server's of the "
        "file, those given to the log, those of ACME, those of followers in other cells.",
        ["certificate"],
    )
    queue_items = _Declared(Gauge, "mailraft_queue_items", "Messages that wait to be sent elsewhere.")
    attempts_total = _Declared(
        Counter,
        "mailraft_queue_attempts_total",
        "Recipients that this node tried to send to, by outcome (delivered, deferred, failed, unknown).",
        ["outcome"],
    )
    delivery_seconds = _Declared(
        Histogram,
        "mailraft_delivery_seconds",
        "Time of an attempt to send a message to the servers of one domain, in seconds.",
        buckets=_DELIVERY_BUCKETS_S,
    )
    delivery_sessions_total = _Declared(
        Counter,
        "mailraft_delivery_sessions_total",
        "Connections to other servers: in clear, or over TLS by who verified the server (nobody, pkix, dane).",
        ["tls"],
    )
    taken_over_total = _Declared(
        Counter,
        "mailraft_queue_taken_over_total",
        "Messages that this node took over from a node that had begun to send them: possible duplicates.",
    )

    def __init__(self, node: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        # what happens with every command and message is counted in plain numbers, and told when the text is asked for
        self._commands: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._verbs: defaultdict[str, defaultdict[bytes, int]] = defaultdict(lambda: defaultdict(int))
        self._deliveries: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._errors: defaultdict[str, int] = defaultdict(int)
        self._counting = threading.Lock()
        self._proposed: dict[str, Histogram] = {}
        for one in vars(type(self)).values():
            if isinstance(one, _Declared):
                one.register(self)
        self.node_info.labels(node).set(1)
        for kind in REGISTRY.values():
            if kind.severity in ("error", "critical"):  # from 0 on, so that the first one is seen to increase it
                self.errors_total.labels(kind.code, kind.category, kind.severity)

    def connection_opened(self, protocol: str) -> None:
        """A client was let in."""
        self.connections_total.labels(protocol, "accepted").inc()
        self.connections.labels(protocol).inc()

    def connection_refused(self, protocol: str) -> None:
        """A client was one too many."""
        self.connections_total.labels(protocol, "refused").inc()

    def connection_closed(self, protocol: str) -> None:
        """A client that was let in has gone."""
        self.connections.labels(protocol).dec()

    def command(self, protocol: str, name: str) -> None:
        """A command was read; the caller gives "other" for one that it does not know."""
        self._commands[protocol, name] += 1

    def verbs(self, protocol: str) -> defaultdict[bytes, int]:
        """Where a front end counts its commands by itself, as it has their names."""
        return self._verbs[protocol]

    def delivery(self, protocol: str, outcome: str) -> None:
        """A message was "committed", "refused" or its outcome is "unknown"."""
        self._deliveries[protocol, outcome] += 1

    def auth_failure(self, protocol: str, mechanism: str, reason: str) -> None:
        """A login failed."""
        self.auth_failures_total.labels(protocol, mechanism, reason).inc()

    def error(self, code: str) -> None:
        """A client was refused, or something failed; a code that is not registered counts as "internal"."""
        with self._counting:  # threads of the log fail too
            self._errors[code] += 1

    def judged(self, dmarc: str) -> None:
        """DMARC says "pass", "fail", "none" or "temperror" of a message; "error": it could not be judged."""
        self.judged_total.labels(dmarc).inc()

    def policy_refused(self, reason: str) -> None:
        """A client was refused before it could send its message."""
        self.policy_refused_total.labels(reason).inc()

    def dns_list_answered(self, name: str, answer: str) -> None:
        """A DNS list named a client ("listed"), did not ("not listed"), or did not say ("failed")."""
        self.dns_list_answers_total.labels(name, answer).inc()

    def filter_answered(self, name: str, outcome: str) -> None:
        """What came of asking a filter, or of not being able to."""
        self.filter_answers_total.labels(name, outcome).inc()

    def filter_asked(self, name: str, seconds: float) -> None:
        """Asking a filter took so long."""
        self.filter_seconds.labels(name).observe(seconds)

    def filter_is_up(self, name: str, is_up: bool) -> None:
        """A filter has begun or ceased to answer."""
        self.filter_up.labels(name).set(is_up)

    def proposed(self, outcome: str, seconds: float) -> None:
        """A write took `seconds` to be "committed", "rejected" or "unknown"."""
        observing = self._proposed.get(outcome)
        if observing is None:
            observing = self._proposed[outcome] = self.propose_seconds.labels(outcome)
        observing.observe(seconds)

    def attempted(self, outcomes: Iterable[str]) -> None:
        """What became of the recipients of a message that this node sent."""
        for outcome in outcomes:
            self.attempts_total.labels(outcome).inc()

    def following(self, subscription: str, connected: bool, lag_records: int | None, lag_s: float | None) -> None:
        """How a subscription of this cell does; a lag that is not known is not shown."""
        self.following_connected.labels(subscription).set(connected)
        if lag_records is not None and lag_s is not None:
            self.following_lag_records.labels(subscription).set(lag_records)
            self.following_lag_seconds.labels(subscription).set(lag_s)

    def following_ended(self, subscription: str) -> None:
        """This node does not pull it any more."""
        for gauge in (self.following_connected, self.following_lag_records, self.following_lag_seconds):
            with contextlib.suppress(KeyError):
                gauge.remove(subscription)

    def families(self) -> Iterable[Metric]:
        """All that was counted, up to now."""
        for protocol, verbs in self._verbs.items():
            for verb, count in verbs.items():
                self.commands_total.labels(protocol, verb.decode("ascii")).inc(count)
            verbs.clear()
        for counter, tally in ((self.commands_total, self._commands), (self.deliveries_total, self._deliveries)):
            for labels, count in tally.items():
                counter.labels(*labels).inc(count)
            tally.clear()
        with self._counting:
            for code, count in self._errors.items():
                kind = kind_of(code)
                self.errors_total.labels(kind.code, kind.category, kind.severity).inc(count)
            self._errors.clear()
        return self.registry.collect()

    def exposition(self) -> bytes:
        """The text that a Prometheus server reads."""
        self.families()
        return generate_latest(self.registry)
