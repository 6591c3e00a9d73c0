"""What a node counts, in a Prometheus registry of its own (several nodes may share a test process).

Labels come from small closed sets only (protocols, known commands, outcomes): never an address, a
login or anything else that a client can choose.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
ROLES = ("leader", "follower", "candidate", "learner", "quarantined")
_PROPOSE_BUCKETS_S = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_FILTER_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_DELIVERY_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """The node's metrics. A protocol label is the listener's kind: "smtp", "submission", "imaps" ..."""

    def __init__(self, node: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        registry = self.registry
        # what happens with every command and message is counted in plain numbers, and told when the text is asked for
        self._commands: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._deliveries: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._proposed: dict[str, Histogram] = {}
        self.node_info = Gauge(
            "mailraft_node_info", "1; the label says which node this is.", ["node"], registry=registry
        )
        self.node_info.labels(node).set(1)
        self.connections = Gauge(
            "mailraft_open_connections", "Open client connections.", ["protocol"], registry=registry
        )
        self.connections_total = Counter(
            "mailraft_connections_total",
            "Client connections, by what became of them at the door.",
            ["protocol", "outcome"],
            registry=registry,
        )
        self.commands_total = Counter(
            "mailraft_commands_total", "Client commands.", ["protocol", "command"], registry=registry
        )
        self.deliveries_total = Counter(
            "mailraft_deliveries_total",
            "Messages offered, by protocol and outcome (committed, refused, unknown).",
            ["protocol", "outcome"],
            registry=registry,
        )
        self.auth_failures_total = Counter(
            "mailraft_auth_failures_total",
            "Logins that failed, by SASL mechanism (or LOGIN, USER) and reason (wrong, malformed; blocked, overloaded, "
            "away: nothing was checked; suspended, limited: they were right, and the account or its tenant is not "
            "served, or is at a limit).",
            ["protocol", "mechanism", "reason"],
            registry=registry,
        )
        self.judged_total = Counter(
            "mailraft_judged_total",
            "Messages from elsewhere, by what DMARC says of them.",
            ["dmarc"],
            registry=registry,
        )
        self.policy_refused_total = Counter(
            "mailraft_policy_refused_total",
            "Connections, commands, recipients and messages that policy refused, by what refused them (blocklist, "
            "greylist, client rate, account rate, tenant rate, spam; account or tenant sessions, logins), refusals "
            "that were held back (tarpit), and answers that were (account or tenant bytes).",
            ["reason"],
            registry=registry,
        )
        self.dns_list_answers_total = Counter(
            "mailraft_dns_list_answers_total",
            "Answers about clients by the DNS lists of the configuration (listed, not listed, failed).",
            ["list", "answer"],
            registry=registry,
        )
        self.filter_answers_total = Counter(
            "mailraft_filter_answers_total",
            "Messages and recipients that a filter was to be asked about, by what came of it (accept, junk, reject, "
            "tempfail; down, busy: it could not be asked; large: the message is over its limit).",
            ["filter", "outcome"],
            registry=registry,
        )
        self.filter_seconds = Histogram(
            "mailraft_filter_seconds",
            "Time that asking a filter took, answered or not, in seconds.",
            ["filter"],
            buckets=_FILTER_BUCKETS_S,
            registry=registry,
        )
        self.filter_up = Gauge(
            "mailraft_filter_up", "1 while the filter answers, 0 while it does not.", ["filter"], registry=registry
        )
        self.propose_seconds = Histogram(
            "mailraft_propose_seconds",
            "Time from a command to its outcome, in seconds.",
            ["outcome"],
            buckets=_PROPOSE_BUCKETS_S,
            registry=registry,
        )
        self.raft_role = Gauge("mailraft_raft_role", "1 for the role that the node has.", ["role"], registry=registry)
        self.raft_term = Gauge("mailraft_raft_term", "Current Raft term.", registry=registry)
        self.raft_commit = Gauge("mailraft_raft_commit", "Last position known to be committed.", registry=registry)
        self.raft_applied = Gauge("mailraft_raft_applied", "Last position folded into the tables.", registry=registry)
        self.fold_lag = Gauge("mailraft_fold_lag", "Committed positions that are not folded yet.", registry=registry)
        self.disk_free_bytes = Gauge(
            "mailraft_disk_free_bytes", "Free space of the database's disk, in bytes.", registry=registry
        )
        self.accepting_mail = Gauge(
            "mailraft_accepting_mail", "1 while the node takes mail, 0 while it refuses it.", registry=registry
        )
        self.part_up = Gauge(
            "mailraft_part_up",
            "0 while a part of the node is down (docs/operations.md has the parts), else 1.",
            ["part", "critical"],
            registry=registry,
        )
        self.config_reloads = Counter(
            "mailraft_config_reloads_total",
            "Reloads of the configuration, by outcome (changed, unchanged, refused).",
            ["outcome"],
            registry=registry,
        )
        self.config_restart_due = Gauge(
            "mailraft_config_restart_due",
            "Keys that were changed and hold only after a restart of the node.",
            registry=registry,
        )
        self.signed_position = Gauge(
            "mailraft_signed_head_position", "Position of the newest head that this node has signed.", registry=registry
        )
        self.signed_at_seconds = Gauge(
            "mailraft_signed_head_time_seconds",
            "When this process signed its newest head (Unix time).",
            registry=registry,
        )
        self.archived_position = Gauge(
            "mailraft_archived_position", "Last position of the log that is in a segment file here.", registry=registry
        )
        self.following_connected = Gauge(
            "mailraft_following_connected",
            "1 while what is followed of another cell comes in; on the node that pulls it.",
            ["subscription"],
            registry=registry,
        )
        self.following_lag_records = Gauge(
            "mailraft_following_lag_records",
            "Entries of the source's log that are not followed yet.",
            ["subscription"],
            registry=registry,
        )
        self.following_lag_seconds = Gauge(
            "mailraft_following_lag_seconds",
            "How much older the replica is than its source, in seconds.",
            ["subscription"],
            registry=registry,
        )
        self.certificate_expiry = Gauge(
            "mailraft_certificate_expiry_timestamp_seconds",
            "When the first certificate of a kind expires, in seconds since 1970; 0 where there is none. Kinds: the "
            "cell's authority, this node's, the server's of the file, those given to the log, those of ACME.",
            ["certificate"],
            registry=registry,
        )
        self.queue_items = Gauge("mailraft_queue_items", "Messages that wait to be sent elsewhere.", registry=registry)
        self.attempts_total = Counter(
            "mailraft_queue_attempts_total",
            "Recipients that this node tried to send to, by outcome (delivered, deferred, failed, unknown).",
            ["outcome"],
            registry=registry,
        )
        self.delivery_seconds = Histogram(
            "mailraft_delivery_seconds",
            "Time of an attempt to send a message to the servers of one domain, in seconds.",
            buckets=_DELIVERY_BUCKETS_S,
            registry=registry,
        )
        self.delivery_sessions_total = Counter(
            "mailraft_delivery_sessions_total",
            "Connections to other servers: in clear, or over TLS by who verified the server (nobody, pkix, dane).",
            ["tls"],
            registry=registry,
        )
        self.taken_over_total = Counter(
            "mailraft_queue_taken_over_total",
            "Messages that this node took over from a node that had begun to send them: possible duplicates.",
            registry=registry,
        )

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

    def delivery(self, protocol: str, outcome: str) -> None:
        """A message was "committed", "refused" or its outcome is "unknown"."""
        self._deliveries[protocol, outcome] += 1

    def auth_failure(self, protocol: str, mechanism: str, reason: str) -> None:
        """A login failed."""
        self.auth_failures_total.labels(protocol, mechanism, reason).inc()

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

    def exposition(self) -> bytes:
        """The text that a Prometheus server reads."""
        for counter, tally in ((self.commands_total, self._commands), (self.deliveries_total, self._deliveries)):
            for labels, count in tally.items():
                counter.labels(*labels).inc(count)
            tally.clear()
        return generate_latest(self.registry)
