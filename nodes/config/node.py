"""The typed configuration of one node: what may be set, its defaults, its limits.

The model is the only source: the reference page is generated from it. It opens no file and reads
no environment (nodes/config/sources.py does that) and never holds a secret itself, only the paths
of the files that do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from nodes.addresses import split_address as split_address
from nodes.config.acme import AcmeSection
from nodes.config.delivery import DeliverySection
from nodes.config.filters import ClamavSection, FiltersSection, MilterSection, RspamdSection
from nodes.config.fulltext import FullTextSection
from nodes.config.heads import HeadsSection
from nodes.config.http import HttpSection
from nodes.config.imap import ImapSection
from nodes.config.ldap import LdapSection
from nodes.config.oauth import OAuthSection
from nodes.config.policy import PolicySection
from nodes.config.queue import QueueSection
from nodes.config.secrets import SecretsSection
from nodes.config.smtp import SmtpSection
from nodes.config.tenants import TenantsSection
from nodes.config.tracing import TracingSection
from nodes.config.values import KIB as KIB
from nodes.config.values import MIB as MIB
from nodes.config.values import (
    TIB,
    Address,
    Count,
    Listen,
    Name,
    Patience,
    Seconds,
    check_range,
    parse_list,
    parse_peers,
)
from nodes.config.values import Section as Section
from nodes.config.values import Size as Size
from nodes.config.verdicts import VerdictsSection

ListenerKind = Literal["smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s"]
LISTENERS: tuple[ListenerKind, ...] = ("smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s")


class NodeSection(Section):
    """Which node this is, and where it keeps its data."""

    RELOADS: ClassVar[bool | frozenset[str]] = frozenset({"stop_grace_s", "switch_interval_ms", "watch_s"})

    name: Name = Field(description="The node's name inside its cell; its certificate carries it.")
    profile: Literal["development", "production", "strict"] = Field(
        default="production",
        description="What this node is for: it sets defaults and forbids what nobody wants there "
        "(`mailraft config explain node.profile`).",
    )
    cluster_id: str = Field(
        min_length=1, max_length=64, description="The cell's identity; certificates of another one are refused."
    )
    pid_file: Path | None = Field(
        default=None, description="Where the running node writes its process id; none if not given."
    )
    data_dir: Path = Field(
        default=Path("data"), description="Folder of the database. Relative paths start at the file's folder."
    )
    hostname: str = Field(
        default="localhost",
        min_length=1,
        max_length=253,
        description="Name given in greetings and trace headers (RFC 5321 4.3.1).",
    )
    stop_grace_s: Seconds = Field(
        default=5.0, description="How long sessions may go on once the node was told to stop."
    )
    watch_s: Seconds = Field(
        default=0.0,
        description="How often it is looked whether this file has changed, to be reloaded once it has settled; 0: only "
        "when it is told to (SIGHUP, `mailraft node reload`).",
    )
    workers: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Processes that run SMTP, LMTP, POP3 and IMAP beside the node's own, which keeps the log, delivery "
        "and HTTP; 0: all in one process. They pay where the machine has more cores than that one uses "
        "(docs/operations.md).",
    )
    switch_interval_ms: float = Field(
        default=1.0,
        gt=0,
        le=1000,
        description="How often Python's threads take turns: the log's thread against the front ends.",
    )


class RaftSection(Section):
    """The cell: who its members are, and how fast a lost leader is noticed."""

    listen: Address = Field(description="Where this node takes its peers' connections (mutual TLS).")
    peers: Annotated[dict[Name, Address], BeforeValidator(parse_peers)] = Field(
        description="Every member of the cell by name, this node too: 1, 3 or 5 of them. An empty log begins with "
        "them; later the log itself says who they are."
    )
    join: Annotated[tuple[Address, ...], BeforeValidator(parse_list)] = Field(
        default=(),
        description="Admin addresses of members: a node without a database starts from a checkpoint of one of them, "
        "once the cell has added it (`mailraft cluster add-node`). A node that has a database ignores it.",
    )
    election_timeout_ms: Annotated[tuple[int, int], BeforeValidator(parse_list), AfterValidator(check_range)] = Field(
        default=(500, 1000),
        description="A follower that hears no leader for a random time in this range asks for votes.",
    )
    heartbeat_ms: int = Field(
        default=100, ge=10, le=10_000, description="How often a leader tells its followers that it lives."
    )
    propose_timeout_s: float = Field(
        default=8.0,
        gt=0,
        le=60,
        description="How long a write may wait for a majority before its outcome is called unknown.",
    )


class ListenSection(Section):
    """Where the front ends listen: host:port each, or "" to switch one off."""

    RELOADS: ClassVar[bool | frozenset[str]] = frozenset(LISTENERS)

    smtp: Listen = Field(default="", description="SMTP for mail from other servers (RFC 5321), with STARTTLS.")
    submission: Listen = Field(default="", description="Submission with STARTTLS (RFC 6409).")
    submissions: Listen = Field(default="", description="Submission over TLS (RFC 8314).")
    lmtp: Listen = Field(default="", description="LMTP (RFC 2033) for a mail server in front of this one.")
    imap: Listen = Field(default="", description="IMAP with STARTTLS (RFC 3501).")
    imaps: Listen = Field(default="", description="IMAP over TLS (RFC 8314).")
    pop3: Listen = Field(default="", description="POP3 with STLS (RFC 1939, RFC 2595).")
    pop3s: Listen = Field(default="", description="POP3 over TLS (RFC 8314).")
    http: Listen = Field(default="", description="/healthz, /readyz and /metrics, in clear: keep it inside.")
    admin: Listen = Field(default="", description="The admin API: HTTPS, an administrator's certificate required.")
    acme_http: Listen = Field(
        default="",
        description="Challenges of ACME (HTTP-01), in clear: what the internet reaches at port 80 of the "
        "names that certificates are ordered for.",
    )
    region: Listen = Field(
        default="", description="For followers in other cells: HTTPS, the certificate of a grant required."
    )


class TlsSection(Section):
    """Certificates, all from the cell's own CA unless told otherwise."""

    ca: Path = Field(description="The cell's CA certificate: peers and administrators are checked against it.")
    certificate: Path = Field(description="This node's certificate (PEM).")
    key: Path = Field(description="This node's private key (PEM, mode 0600).")
    server_certificate: Path | None = Field(
        default=None, description="Another certificate (chain, PEM) to show to mail clients, as from a public CA."
    )
    server_key: Path | None = Field(default=None, description="The key of server_certificate.")


class StorageSection(Section):
    """The database."""

    map_size_bytes: Size = Field(
        default=TIB, ge=16 * MIB, description="Size of the address range that is mapped once; set far above the disk."
    )
    reserve_bytes: Size = Field(
        default=64 * MIB,
        ge=0,
        description="Disk space kept for votes, expunges and redactions: below it mail is refused with 4xx.",
    )


class LimitsSection(Section):
    """What a client may ask for before it is refused."""

    RELOADS: ClassVar[bool | frozenset[str]] = True
    CLUSTER: ClassVar[frozenset[str]] = frozenset({
        "message_bytes", "line_bytes", "smtp_line_bytes", "literal_bytes", "recipients", "errors", "login_s",
        "smtp_idle_s", "imap_idle_s", "pop3_idle_s", "pop3_lease_s", "auth_failures", "auth_delay_s",
        "auth_delay_max_s", "auth_block_after", "auth_free_of_network", "auth_free_of_login", "auth_window_s",
    })  # fmt: skip

    message_bytes: Size = Field(default=50 * MIB, ge=64 * KIB, description="Largest message (RFC 1870 SIZE; APPEND).")
    line_bytes: Size = Field(
        default=64 * KIB, ge=1024, description="Longest command line of IMAP and POP3, without literals."
    )
    smtp_line_bytes: Size = Field(
        default=12_288,
        ge=1000,
        description="Longest command line of SMTP and LMTP (RFC 4954 4 asks for 12,288 in AUTH).",
    )
    literal_bytes: Size = Field(default=64 * KIB, ge=1024, description="Largest IMAP literal outside APPEND.")
    recipients: int = Field(
        default=100, ge=100, le=1_000_000, description="Recipients of one message (RFC 5321 4.5.3.1.8: at least 100)."
    )
    connections: Count = Field(default=2000, description="Client connections of this node, all protocols together.")
    connections_per_address: Count = Field(default=200, description="Client connections from one network address.")
    errors: Count = Field(default=20, description="Bad commands in one session before it is closed.")
    login_s: Patience = Field(
        default=60.0, description="An IMAP or POP3 client that has not logged in by then is closed."
    )
    smtp_idle_s: Patience = Field(default=300.0, description="A silent SMTP client is closed (RFC 5321 4.5.3.2.7).")
    imap_idle_s: Patience = Field(
        default=1800.0, description="A silent IMAP client is closed (RFC 3501 5.4: not below 1800)."
    )
    pop3_idle_s: Patience = Field(
        default=600.0, description="A silent POP3 client is closed (RFC 1939 3: not below 600)."
    )
    pop3_lease_s: float = Field(
        default=60.0,
        ge=1,
        le=600,
        description="Where a tenant lets one POP3 session have a maildrop alone: how long it stays so after the "
        "session's node was killed.",
    )
    auth_failures: Count = Field(default=5, description="Wrong passwords after which a connection is closed.")
    auth_delay_s: Seconds = Field(
        default=0.5, description="Delay of the next attempt after a wrong password; it doubles with each."
    )
    auth_delay_max_s: Seconds = Field(default=15.0, description="The delay grows no further than this.")
    auth_block_after: Count = Field(
        default=50,
        description="Wrong passwords for one login from one address after which further attempts are refused.",
    )
    auth_free_of_network: Count = Field(
        default=20,
        description="Wrong passwords from one network (an IPv4 address, an IPv6 /64), whatever the login, that slow "
        "down nobody else there; ten times auth_block_after of them are refused.",
    )
    auth_free_of_login: Count = Field(
        default=20,
        description="Wrong passwords for one login, from wherever, that slow down nobody else who tries it; ten times "
        "auth_block_after of them are refused. Who logged in from a network before is exempt from both there.",
    )
    auth_window_s: Patience = Field(default=900.0, description="How long wrong passwords are remembered.")


class LogSection(Section):
    """The node's own log lines (not the event log)."""

    RELOADS: ClassVar[bool | frozenset[str]] = True

    format: Literal["text", "json"] = Field(
        default="text", description="One line for people, or one JSON object a line."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least level that is written."
    )


class DnsSection(Section):
    """Looking up names: of destinations, of senders' policies, and of clients. Mail never waits for a client's name."""

    RELOADS: ClassVar[bool | frozenset[str]] = True

    client_names: Literal["off", "remote", "all"] = Field(
        default="remote",
        description="Whose confirmed host names stand in Received lines: nobody's, those of clients on other machines, "
        "or everybody's.",
    )
    nameservers: Annotated[tuple[Address, ...], BeforeValidator(parse_list)] = Field(
        default=(), description="Name servers to ask (host:port); those of the system if empty."
    )
    trust_ad: bool = Field(
        default=False,
        description="Whether these name servers validate DNSSEC and the way to them is safe (this machine's own "
        "resolver, say): only then does DANE count.",
    )
    timeout_s: float = Field(
        default=5.0, gt=0, le=60, description="How long an answer is waited for, all servers and repeats together."
    )
    cache_bytes: Size = Field(
        default=16 * MIB, ge=64 * KIB, description="Memory for answers that are kept for as long as they are valid."
    )
    questions: Count = Field(default=256, description="Questions that may be under way at one time; others wait.")


class AuthSection(Section):
    """How clients may log in."""

    RELOADS: ClassVar[bool | frozenset[str]] = True
    CLUSTER: ClassVar[frozenset[str]] = frozenset({"plaintext_without_tls", "channel_binding"})

    plaintext_without_tls: Literal["never", "loopback"] = Field(
        default="never", description="Whether a password may come without TLS: never, or only from this machine itself."
    )
    channel_binding: bool = Field(
        default=False,
        description="Whether SCRAM-SHA-256-PLUS is offered over TLS. Some clients choose it and can not do it: mutt "
        "2.2, when it sends.",
    )


class NodeConfig(Section):
    """Everything that one node is told."""

    node: NodeSection
    raft: RaftSection
    listen: ListenSection = ListenSection.model_construct()
    tls: TlsSection
    acme: AcmeSection = AcmeSection.model_construct()
    storage: StorageSection = StorageSection.model_construct()
    limits: LimitsSection = LimitsSection.model_construct()
    log: LogSection = LogSection.model_construct()
    secrets: SecretsSection = SecretsSection.model_construct()
    auth: AuthSection = AuthSection.model_construct()
    fulltext: FullTextSection = FullTextSection.model_construct()
    http: HttpSection = HttpSection.model_construct()
    imap: ImapSection = ImapSection.model_construct()
    ldap: LdapSection = LdapSection.model_construct()
    oauth: OAuthSection = OAuthSection.model_construct()
    dns: DnsSection = DnsSection.model_construct()
    delivery: DeliverySection = DeliverySection.model_construct()
    queue: QueueSection = QueueSection.model_construct()
    verdicts: VerdictsSection = VerdictsSection.model_construct()
    policy: PolicySection = PolicySection.model_construct()
    smtp: SmtpSection = SmtpSection.model_construct()
    filters: FiltersSection = FiltersSection.model_construct()
    rspamd: RspamdSection = RspamdSection.model_construct()
    clamav: ClamavSection = ClamavSection.model_construct()
    milter: MilterSection = MilterSection.model_construct()
    heads: HeadsSection = HeadsSection.model_construct()
    tenants: TenantsSection = TenantsSection.model_construct()
    tracing: TracingSection = TracingSection.model_construct()

    def with_paths_from(self, folder: Path) -> NodeConfig:
        """The same, each relative path starting at `folder` (the one that holds the file)."""
        sections = {name: getattr(self, name) for name in type(self).model_fields}
        return self.model_copy(update={name: _with_paths(section, folder) for name, section in sections.items()})


def _with_paths(section: Section, folder: Path) -> Section:
    changed: dict[str, Any] = {key: folder / value for key, value in section if isinstance(value, Path)}
    for key, value in section:
        if isinstance(value, tuple) and value and all(isinstance(one, Section) for one in value):
            changed[key] = tuple(_with_paths(one, folder) for one in value)
    return section.model_copy(update=changed)
