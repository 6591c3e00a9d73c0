"""Runs one scenario to its end: a cluster under mail, the scenario's faults, calm, one position, a look, a verdict.

Safety first: while the schedule runs, anything may fail, and the history notes what clients were told. Then all faults
are undone and the cluster must become whole within a bound; what it holds then is compared with the history. Whatever
happens, every process that was started has ended when `run` returns or raises.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from chaos.checkers import Check
from chaos.checkers.judge import judge
from chaos.checkers.log import NodeHead
from chaos.checkers.memory import check_memory
from chaos.checkers.service import check_service
from chaos.cluster import Cluster, ClusterStatus
from chaos.faults import FAULTS
from chaos.final import Final, observe
from chaos.history import History
from chaos.memory import MemoryWatch
from chaos.namespaces import Namespaces
from chaos.namespaces import missing as missing_namespaces
from chaos.network import Network
from chaos.node_files import examine
from chaos.observation import Observed
from chaos.report import Report
from chaos.site import CALM_S, Settings, Site
from chaos.watcher import Watcher
from chaos.workload import Target, Workload, make_target

CUTS = ("partition", "partition-one-way", "deafness")


class Missing(Exception):
    """This machine lacks what a scenario needs; the text says what."""


@dataclass(frozen=True)
class Scenario:
    """What happens, and when: `schedule` does it on a site, using the faults that are named in `faults`."""

    name: str
    summary: str
    schedule: Callable[[Site], Awaitable[None]]
    faults: tuple[str, ...]
    duration_s: float = 30.0
    networked: bool = False  # nodes reach each other through relays
    prepare: Callable[[Site], None] | None = None  # before the nodes start
    silence_s: float = 15.0  # the longest time that may pass without a single 250
    environment: dict[str, str] = field(default_factory=dict)
    in_all: bool = True  # part of `chaos run all`; one that is too long for that is run by name

    def missing(self, namespaces: bool = False) -> list[str]:
        """What this machine lacks for it."""
        lacks = [lack for name in self.faults if (lack := FAULTS[name].missing())]
        if namespaces:
            lacks += [lack for lack in (missing_namespaces(),) if lack]
            lacks += [f"{name} needs the relays, not namespaces" for name in self.faults if name not in CUTS]
        return lacks


async def run(scenario: Scenario, settings: Settings, history: History) -> Report:
    """Runs it once and judges it; `history` can be watched meanwhile.

    Raises Missing, ClusterError, NetworkError, ObservationError or OSError.
    """
    if lacks := scenario.missing(settings.namespaces):
        raise Missing("; ".join(lacks))
    network = Namespaces() if settings.namespaces else Network() if scenario.networked else None
    cluster = Cluster(settings.folder, settings.nodes, scenario.environment, apart=True, network=network)
    site = Site(settings, cluster, history, network)
    try:
        target = await asyncio.to_thread(_start, scenario, site)
        await _under_load(scenario, site, target)
        status = await _settled(site)
        left = {node.name: node.endpoints for node in status.nodes}  # also those that came in place of others
        observed = await observe(target._replace(endpoints=left), history, settings.seed)
    finally:
        await asyncio.to_thread(_stop, site)
    return await asyncio.to_thread(_judge, scenario, site, status, observed)


def _start(scenario: Scenario, site: Site) -> Target:
    if site.network is not None:
        site.network.start()
    site.cluster.make()
    if scenario.prepare is not None:
        scenario.prepare(site)
    site.cluster.start()
    return make_target(site.cluster)


def _stop(site: Site) -> None:
    try:
        site.cluster.stop()
    finally:
        if site.network is not None:
            site.network.stop()


async def _under_load(scenario: Scenario, site: Site, target: Target) -> None:
    """Workload and faults at once; returns when both have ended."""
    history = site.history
    history.started = time.monotonic()
    history.note("workload begins", detail=f"{site.settings.rate:g} operations a second")
    stop = asyncio.Event()
    workload = asyncio.create_task(Workload(site.settings.seed, target, history, site.settings.rate).run(stop))
    watchers = [asyncio.create_task(one.run()) for one in (Watcher(target, history), MemoryWatch(site))]
    try:
        await asyncio.sleep(CALM_S)
        await scenario.schedule(site)
        await asyncio.sleep(CALM_S)
        stop.set()
        await workload
    finally:
        workload.cancel()
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(workload, *watchers, return_exceptions=True)


async def _settled(site: Site) -> ClusterStatus:
    site.history.note("healed; waiting for one position on all nodes")
    status = await asyncio.to_thread(site.cluster.wait_settled, lost=site.lost)
    site.history.note("settled", detail=f"position {status.nodes[0].applied}")
    return status


def _judge(scenario: Scenario, site: Site, status: ClusterStatus, observed: Observed) -> Report:
    history, silence_s = site.history, scenario.silence_s
    logs = [examine(node.name, site.cluster.data_dir(node.name), node.applied) for node in status.nodes]
    heads = [NodeHead(node.name, node.applied, node.chain) for node in status.nodes]
    final = Final(observed, heads, logs)
    checks = [
        *judge(history, final),
        Check(f"mail is never refused everywhere for more than {silence_s:g} s", check_service(history, silence_s)),
        Check("the memory of a node that lives does not grow", check_memory(history.footprints)),
        Check("the cluster met every fault as it must", site.broken),
    ]
    history.note("judged")
    return Report(scenario.name, site.settings.seed, history, checks, final)
