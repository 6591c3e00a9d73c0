"""`mailraft bench smtp`: how many messages a second three nodes take, from Postfix's own load generator.

With a peer, rounds alternate (theirs, ours) within one run, so that the ratio holds when the machine's speed drifts.
With checks, our nodes judge SPF, DKIM, ARC and DMARC of each message, and the peer takes the same message unjudged.
"""

import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from chaos.cluster import Cluster, free_base_port
from cli.bench.postfix_peer import PostfixPeer
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
    with _cluster(nodes, environment) as endpoints:
        if not with_postfix:
            return [_row(name, [rate(endpoints, load) for _ in range(rounds)], load, nodes)]
        with PostfixPeer(free_base_port(1)) as peer:
            pairs = [(rate([peer.endpoint], load), rate(endpoints, load)) for _ in range(rounds)]
    theirs, ours = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ratio = statistics.median(own / other for other, own in pairs)
    about = "same rounds, one copy, fsync" + (", nothing judged" if load.message else "")
    return [
        _row(name, ours, load, nodes),
        Row("SMTP accepted by Postfix", statistics.median(theirs), "msg/s", True, about),
        Row(f"{name} against Postfix", ratio, "ratio", True, f"median of {rounds} rounds; {nodes} copies against one"),
    ]


def _row(name: str, rates: list[float], load: Load, nodes: int) -> Row:
    note = f"{load.size_bytes} bytes, {load.sessions} sessions a node, {nodes} nodes; median of {len(rates)} rounds"
    return Row(f"{name} accepted", statistics.median(rates), "msg/s", True, note)


@contextmanager
def _cluster(nodes: int, environment: Mapping[str, str]) -> Iterator[list[str]]:
    """SMTP endpoints of a fresh cluster with one account; nothing is left of it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="mailraft-bench."))
    try:
        with Cluster(folder, nodes, environment) as cluster:
            cluster.add_accounts("bench", (ACCOUNT,))
            yield [node.endpoints["smtp"] for node in cluster.status().nodes]
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
