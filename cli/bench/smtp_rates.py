"""`mailraft bench smtp`: how many messages a second three nodes take, from Postfix's own load generator.

With a peer, rounds alternate (theirs, ours) within one run, so that the ratio holds when the machine's speed drifts;
Postfix may first discard what it took in its round, so that it does not do so in ours.
With checks, our nodes judge SPF, DKIM, ARC and DMARC of each message, and the peer takes the same message unjudged.
"""

import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from chaos.cluster import Cluster, free_base_port
from cli.bench.postfix_peer import PostfixPeer
from cli.bench.processor_time import cpu_seconds
from cli.bench.results import Row
from cli.bench.signed_mail import DOMAIN, HOST, ResolverError, signed_mail

ACCOUNT = "alice@bench.test"
ROUND_TIMEOUT_S = 600.0


class BenchError(Exception):
    """The benchmark could not be run; the text says what to do."""


@dataclass(frozen=True)
class Load:
    """What smtp-source sends: `messages` split over the servers, `sessions` connections to each, `size_bytes` each.

    message: a file with the message, in place of one that smtp-source makes up.
    """

    messages: int = 4500
    sessions: int = 64
    size_bytes: int = 4096
    message: Path | None = None


def bench_smtp(load: Load, rounds: int, nodes: int, with_postfix: bool, with_checks: bool = False) -> list[Row]:
    """Measures `rounds` rounds; rows with medians. Raises BenchError, ClusterError or PeerError."""
    if shutil.which("smtp-source") is None:
        raise BenchError("smtp-source not found: apt-get install postfix (it need not run)")
    if not with_checks:
        return _measured("SMTP", load, rounds, nodes, with_postfix, {})
    try:
        with signed_mail(load.size_bytes) as mail:
            judged = replace(load, message=mail.message)
            return _measured("SMTP with DKIM and SPF", judged, rounds, nodes, with_postfix, mail.environment)
    except ResolverError as error:
        raise BenchError(str(error)) from error


def _measured(
    name: str, load: Load, rounds: int, nodes: int, with_postfix: bool, environment: Mapping[str, str]
) -> list[Row]:
    with _cluster(nodes, environment) as (endpoints, cpu_seconds):
        if not with_postfix:
            return _rows(name, [_round(endpoints, load, cpu_seconds) for _ in range(rounds)], load, nodes)
        with PostfixPeer(free_base_port(1)) as peer:
            pairs = []
            for _ in range(rounds):
                other = _round([peer.endpoint], load, peer.cpu_seconds)
                peer.settle()
                pairs.append((other, _round(endpoints, load, cpu_seconds)))
    theirs, ours = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    about = "same rounds, one copy, fsync" + (", nothing judged" if load.message else "")
    costs = [_cost_us([pair[number] for pair in pairs]) + _load_us(ours) for number in range(2)]
    note = f"median of {rounds} rounds; {nodes} copies against one"
    return [
        *_rows(name, ours, load, nodes),
        Row("SMTP accepted by Postfix", statistics.median(one.rate for one in theirs), "msg/s", True, about),
        Row("SMTP accepted by Postfix, CPU", _cost_us(theirs), "us/message", False, "all its processes"),
        Row(
            f"{name} against Postfix",
            statistics.median(own.rate / other.rate for other, own in pairs),
            "ratio",
            True,
            note,
        ),
        Row(
            f"{name} against Postfix, by CPU",
            costs[0] / costs[1],
            "ratio",
            True,
            "server and load generator, a message",
        ),
    ]


class Round(NamedTuple):
    """Messages a second, and the processor time of servers and of the load generator for one message."""

    rate: float
    cost_us: float
    load_us: float


def _rows(name: str, rounds: list[Round], load: Load, nodes: int) -> list[Row]:
    note = f"{load.size_bytes} bytes, {load.sessions} sessions a node, {nodes} nodes; median of {len(rounds)} rounds"
    beside = f"all nodes; smtp-source beside them {_load_us(rounds):.0f} us"
    return [
        Row(f"{name} accepted", statistics.median(one.rate for one in rounds), "msg/s", True, note),
        Row(f"{name} accepted, CPU", _cost_us(rounds), "us/message", False, beside),
    ]


def _cost_us(rounds: list[Round]) -> float:
    return statistics.median(one.cost_us for one in rounds)


def _load_us(rounds: list[Round]) -> float:
    return statistics.median(one.load_us for one in rounds)


def _round(endpoints: Sequence[str], load: Load, cpu_seconds: Callable[[], float]) -> Round:
    before_s, load_before_s = cpu_seconds(), _children_cpu_s()
    found = rate(endpoints, load)
    cost_s, load_s = cpu_seconds() - before_s, _children_cpu_s() - load_before_s
    return Round(found, cost_s / load.messages * 1e6, load_s / load.messages * 1e6)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def _cluster(nodes: int, environment: Mapping[str, str]) -> Iterator[tuple[list[str], Callable[[], float]]]:
    """SMTP endpoints of a fresh cluster with one account, and its processor time; nothing is left of it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="mailraft-bench."))
    try:
        with Cluster(folder, nodes, environment) as cluster:
            cluster.add_accounts("bench", (ACCOUNT,))
            found = cluster.status().nodes
            yield [node.endpoints["smtp"] for node in found], lambda: cpu_seconds(node.pid for node in found)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def rate(endpoints: Sequence[str], load: Load) -> float:
    """Messages a second, from the first connection to the last answer. Raises BenchError if any was not taken."""
    share = load.messages // len(endpoints)
    began = time.monotonic()
    sources = {
        endpoint: subprocess.Popen(_command(endpoint, load, share), stdin=subprocess.DEVNULL) for endpoint in endpoints
    }
    try:
        failed = [endpoint for endpoint, source in sources.items() if source.wait(ROUND_TIMEOUT_S) != 0]
    except subprocess.TimeoutExpired:
        raise BenchError(f"smtp-source did not end within {ROUND_TIMEOUT_S:.0f} s") from None
    finally:
        for source in sources.values():
            source.kill()
    if failed:
        raise BenchError(f"smtp-source failed against {', '.join(failed)}")
    return share * len(endpoints) / (time.monotonic() - began)


def _command(endpoint: str, load: Load, messages: int) -> list[str]:
    amounts = ["-s", str(load.sessions), "-m", str(messages)]
    content = ["-F", str(load.message), "-M", HOST] if load.message else ["-l", str(load.size_bytes)]
    return ["smtp-source", "-d", *amounts, *content, "-f", f"bench@{DOMAIN}", "-t", ACCOUNT, endpoint]
