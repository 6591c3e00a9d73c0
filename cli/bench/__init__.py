"""`mailraft bench`: measure speed, and compare with earlier runs. Results are rows with a name, a value and a unit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from cli.options import json_option, size_bytes
from cli.output import CommandError, print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.bench.results import Row


@click.group()
def bench() -> None:
    """Measure speed and compare with earlier runs."""


@bench.command()
@click.option("--records", type=click.IntRange(100), default=20_000, show_default=True, help="Records in each rate.")
@click.option(
    "--history",
    type=click.IntRange(1000),
    default=100_000,
    show_default=True,
    help="Events in the mailbox that is shown as it was.",
)
@click.option("--peer", type=click.Choice(["etcd"]), help="Measure this store's puts beside ours, by turns.")
@json_option
def log(records: int, history: int, peer: str | None, as_json: bool) -> None:
    """The event log on three nodes: commits a second, latency, fold, time travel."""
    from chaos.cluster import ClusterError
    from cli.bench.etcd_peer import EtcdError
    from cli.bench.log_rates import bench_log
    from cli.bench.members import MemberError

    try:
        rows = bench_log(records, history, peer == "etcd", say)
    except (MemberError, EtcdError, ClusterError, OSError) as error:
        raise CommandError(f"the benchmark could not be finished: {error}") from error
    _show("log", rows, as_json)


@bench.command()
@click.option("--accounts", type=click.IntRange(100), default=100_000, show_default=True, help="How many.")
@click.option("--tenants", type=click.IntRange(1), default=1000, show_default=True, help="Whose they are.")
@click.option("--nodes", type=click.Choice(["1", "3", "5"]), default="3", show_default=True, help="Of the cluster.")
@json_option
def accounts(accounts: int, tenants: int, nodes: str, as_json: bool) -> None:
    """Many accounts in many tenants: making them, the memory of idle ones, log-in, pages of lists."""
    from chaos.cluster import ClusterError
    from cli.bench.account_rates import bench_accounts

    try:
        rows = bench_accounts(accounts, tenants, int(nodes), say)
    except (ClusterError, OSError) as error:
        raise CommandError(f"the benchmark could not be finished: {error}") from error
    _show("accounts", rows, as_json)


@bench.command()
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Measurements of each.")
@click.option("--messages", type=click.IntRange(1), default=4500, show_default=True, help="Messages a round.")
@click.option("--sessions", type=click.IntRange(1), default=64, show_default=True, help="Connections to each node.")
@click.option("--bytes", "size_bytes", type=click.IntRange(1), default=4096, show_default=True, help="Bytes a message.")
@click.option("--nodes", type=click.Choice(["1", "3", "5"]), default="3", show_default=True, help="Of the cluster.")
@click.option("--peer", type=click.Choice(["postfix"]), help="Measure this server too, by turns (needs root).")
@click.option("--checks", is_flag=True, help="Judge SPF, DKIM, ARC and DMARC of each message, asking a local resolver.")
@json_option
def smtp(
    rounds: int,
    messages: int,
    sessions: int,
    size_bytes: int,
    nodes: str,
    peer: str | None,
    checks: bool,
    as_json: bool,
) -> None:
    """SMTP into all nodes of a fresh cluster, loaded by Postfix's smtp-source."""
    from chaos.cluster import ClusterError
    from cli.bench.postfix_peer import PeerError
    from cli.bench.smtp_rates import BenchError, Load, bench_smtp

    load = Load(messages, sessions, size_bytes)
    try:
        rows = bench_smtp(load, rounds, int(nodes), peer == "postfix", checks)
    except (BenchError, PeerError, ClusterError, OSError) as error:
        raise CommandError(f"the benchmark could not be finished: {error}") from error
    _show("smtp", rows, as_json)


@bench.command()
@click.option("--messages", type=click.IntRange(1), default=10_000, show_default=True, help="Messages that are read.")
@click.option("--bytes", "size_bytes", type=click.IntRange(1), default=4096, show_default=True, help="Bytes a message.")
@click.option(
    "--large", type=click.IntRange(0), default=100_000, show_default=True, help="Messages of the largest mailbox."
)
@click.option("--appends", type=click.IntRange(1), default=1000, show_default=True, help="Messages appended a round.")
@click.option("--notices", type=click.IntRange(0), default=50, show_default=True, help="Deliveries told of in IDLE.")
@click.option("--idle", type=click.IntRange(0), default=10_000, show_default=True, help="Connections in IDLE.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Measurements of each.")
@click.option(
    "--nodes",
    type=click.Choice(["1", "3", "5"]),
    multiple=True,
    default=("1", "3"),
    show_default=True,
    help="Of a cell.",
)
@click.option("--peer", type=click.Choice(["dovecot"]), help="Measure this server too, by turns.")
@click.option("--quick", is_flag=True, help="A tenth of everything that is not given, once.")
@json_option
@click.pass_context
def imap(
    context: click.Context,
    messages: int,
    size_bytes: int,
    large: int,
    appends: int,
    notices: int,
    idle: int,
    rounds: int,
    nodes: tuple[str, ...],
    peer: str | None,
    quick: bool,
    as_json: bool,
) -> None:
    """IMAP commands to fresh cells of one and three nodes: what each takes, and what waiting costs."""
    from chaos.cluster import ClusterError
    from cli.bench.dovecot_peer import PeerError
    from cli.bench.imap_client import ImapFailed
    from cli.bench.imap_rates import Amounts, bench_imap
    from cli.bench.smtp_rates import BenchError

    amounts = Amounts(messages, size_bytes, large, appends, notices, idle, rounds)
    if quick:
        given = [name for name in context.params if context.get_parameter_source(name) is not ParameterSource.DEFAULT]
        amounts = amounts.quick(given)
    try:
        rows = bench_imap(amounts, sorted(map(int, set(nodes))), peer == "dovecot", say)
    except (ImapFailed, BenchError, PeerError, ClusterError, OSError) as error:
        raise CommandError(f"the benchmark could not be finished: {error}") from error
    _show("imap", rows, as_json)


@bench.command()
@click.option("--idle", type=click.IntRange(1), default=10_000, show_default=True, help="Connections that say nothing.")
@click.option("--busy", type=click.IntRange(0), default=200, show_default=True, help="Connections that send mail.")
@click.option("--messages", type=click.IntRange(1), default=4000, show_default=True, help="Messages of the busy ones.")
@click.option("--tls", is_flag=True, help="The idle ones are submitters over TLS.")
@json_option
def connections(idle: int, busy: int, messages: int, tls: bool, as_json: bool) -> None:
    """What SMTP connections cost one node in memory, idle and busy ones together."""
    from chaos.cluster import ClusterError
    from cli.bench.connections import bench_connections
    from cli.bench.smtp_rates import BenchError

    try:
        rows = bench_connections(idle, busy, messages, tls)
    except (BenchError, ClusterError, OSError) as error:
        raise CommandError(f"the benchmark could not be finished: {error}") from error
    _show("connections", rows, as_json)


@bench.command()
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Measurements of each.")
@click.option("--messages", type=click.IntRange(1), default=3000, show_default=True, help="Messages a round.")
@click.option("--bytes", "size_bytes", type=click.IntRange(1), default=4096, show_default=True, help="Bytes a message.")
@click.option("--nodes", type=click.Choice(["1", "3", "5"]), default="3", show_default=True, help="Of the cluster.")
@click.option(
    "--against", type=click.Choice(["postfix"]), help="Measure this server's queue too, by turns (needs root)."
)
@json_option
def queue(rounds: int, messages: int, size_bytes: int, nodes: str, against: str | None, as_json: bool) -> None:
    """A full queue, drained by all nodes of a fresh cluster into Postfix's smtp-sink."""
    from chaos.cluster import ClusterError
    from cli.bench.postfix_peer import PeerError
    from cli.bench.queue_rates import Backlog, bench_queue
    from cli.bench.smtp_rates import BenchError

    try:
        rows = bench_queue(Backlog(messages, size_bytes), rounds, int(nodes), against == "postfix")
    except (BenchError, PeerError, ClusterError, OSError) as error:
        raise CommandError(f"the benchmark could not be finished: {error}") from error
    _show("queue", rows, as_json)


@bench.command()
@click.option("--size", default="1GiB", show_default=True, help="Bytes of records and bodies in the log.")
@json_option
def checkpoint(size: str, as_json: bool) -> None:
    """A checkpoint, streamed to a new node over mutual TLS on loopback."""
    from chaos.cluster import ClusterError
    from cli.bench.checkpoint import bench_checkpoint
    from eventlog.checkpoint import CheckpointError

    try:
        rows = bench_checkpoint(size_bytes(size), say)
    except (CheckpointError, ClusterError, OSError) as error:
        raise CommandError(f"the benchmark could not be finished: {error}") from error
    _show("checkpoint", rows, as_json)


@bench.command()
@click.option("--size", default="1GiB", show_default=True, help="Bytes of messages in the log.")
@click.option(
    "--bytes", "message_bytes", type=click.IntRange(100), default=16384, show_default=True, help="Bytes a message."
)
@json_option
def restore(size: str, message_bytes: int, as_json: bool) -> None:
    """`cluster restore` from a node's folder, beside a plain copy of its database."""
    from chaos.cluster import ClusterError
    from cli.bench.members import MemberError
    from cli.bench.restore_rates import bench_restore

    try:
        rows = bench_restore(size_bytes(size), message_bytes, say)
    except (MemberError, ClusterError, OSError) as error:
        raise CommandError(f"the benchmark could not be finished: {error}") from error
    _show("restore", rows, as_json)


@bench.command()
@click.option(
    "--history", type=click.IntRange(100), default=20_000, show_default=True, help="Messages before it comes."
)
@click.option("--rate", "rate_per_s", type=click.FloatRange(1), default=500.0, show_default=True, help="A second.")
@json_option
def catch_up(history: int, rate_per_s: float, as_json: bool) -> None:
    """A node that is added under a steady load of mail: how long until it votes."""
    from chaos.cluster import ClusterError
    from cli.bench.catch_up import bench_catch_up
    from cli.bench.smtp_rates import BenchError

    try:
        rows = bench_catch_up(history, rate_per_s, say)
    except (BenchError, ClusterError, OSError) as error:
        raise CommandError(f"the benchmark could not be finished: {error}") from error
    _show("catch-up", rows, as_json)


@bench.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option(
    "--tolerance", type=click.FloatRange(0, 1), default=0.15, show_default=True, help="Loss that is still noise."
)
@json_option
def compare(old: Path, new: Path, tolerance: float, as_json: bool) -> None:
    """Compare two results written with --json; exits 1 if a row of OLD became worse or is missing in NEW."""
    from cli.bench import comparison

    try:
        before, after = comparison.load(old), comparison.load(new)
        rows, missing = comparison.compare(before, after)
    except comparison.CompareError as error:
        raise CommandError(str(error)) from None
    worse = [row.name for row in rows if row.is_worse(tolerance)]
    same = comparison.same_machine(before, after)
    if as_json:
        print_json({"rows": [r._asdict() for r in rows], "worse": worse, "missing": missing, "same_machine": same})
    else:
        cells = [(r.name, f"{r.old:,.2f}", f"{r.new:,.2f}", r.unit, f"{r.gain:.2f}") for r in rows]
        print_table(("row", ">old", ">new", "unit", ">gain"), cells, "the results have no row in common")
    if not same:
        say("the two were measured on different machines: ratios say little")
    if worse or missing:
        raise CommandError(
            "; ".join([f"{name} became worse" for name in worse] + [f"{name} is gone" for name in missing])
        )


def _show(name: str, rows: Sequence[Row], as_json: bool) -> None:
    from cli.bench.results import as_text, result

    document: dict[str, Any] = result(name, rows)
    if as_json:
        print_json(document)
    else:
        click.echo(as_text(document))
