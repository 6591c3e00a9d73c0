"""leader-kill: mail goes in over all nodes while the leader is killed every few seconds.

The nodes run under the supervisor of `cluster up`, which restarts what dies, as a service manager would: the restart
that is tested is then the one that a user gets. One node is down at a time, so a majority always exists and every
outage is an election; the next kill waits until the killed node answers again.
"""

import asyncio
import dataclasses
import time

from chaos.checkers.judge import judge
from chaos.checkers.log import NodeHead
from chaos.cluster import Cluster, ClusterStatus
from chaos.faults import kill, kill_schedule, leader_of
from chaos.final import Final, observe
from chaos.history import History, Kill
from chaos.node_files import examine
from chaos.report import Report
from chaos.scenarios.settings import Settings
from chaos.watcher import Watcher
from chaos.workload import Target, Workload, make_target

SUMMARY = "SIGKILL of the leader every few seconds under mail to all nodes; nothing acknowledged may be lost"
DURATION_S = 30.0
CALM_S = 2.0
RESTART_TIMEOUT_S = 30.0


async def run(settings: Settings) -> Report:
    """Runs it once and judges it. Every process that it started has ended when it returns or raises."""
    cluster = Cluster(settings.folder, settings.nodes)
    history = History()
    try:
        await asyncio.to_thread(cluster.start)
        target = await asyncio.to_thread(make_target, cluster)
        history.started = time.monotonic()
        history.note("workload begins", detail=f"{settings.rate:g} operations a second")
        await _under_load(cluster, settings, target, history)
        history.note("healed; waiting for one position on all nodes")
        status = await asyncio.to_thread(cluster.wait_settled)
        history.note("settled", detail=f"position {status.nodes[0].applied}")
        observed = await observe(target, history, settings.seed)
    finally:
        await asyncio.to_thread(cluster.stop)
    logs = [await asyncio.to_thread(examine, node.name, cluster.data_dir(node.name)) for node in status.nodes]
    history.note("judged")
    heads = [NodeHead(node.name, node.applied, node.chain) for node in status.nodes]
    final = Final(observed, heads, logs)
    return Report("leader-kill", settings.seed, history, judge(history, final), final)


async def _under_load(cluster: Cluster, settings: Settings, target: Target, history: History) -> None:
    stop = asyncio.Event()
    workload = Workload(settings.seed, target, history, settings.rate)
    mail = asyncio.create_task(workload.run(stop))
    watch = asyncio.create_task(Watcher(target, history).run())
    try:
        await _kill_leaders(cluster, settings, history)
        await asyncio.sleep(CALM_S)
        stop.set()
        await mail
    finally:
        mail.cancel()
        watch.cancel()
        await asyncio.gather(mail, watch, return_exceptions=True)


async def _kill_leaders(cluster: Cluster, settings: Settings, history: History) -> None:
    await asyncio.sleep(CALM_S)
    ends_s = history.now_s() + settings.duration_s
    for pause_s in kill_schedule(settings.seed, settings.kill_interval_s):
        await asyncio.sleep(min(pause_s, max(0.0, ends_s - history.now_s())))
        if history.now_s() >= ends_s:
            return
        status = await asyncio.to_thread(cluster.status)
        leader = leader_of(status)
        if leader is None:
            continue
        kill(leader)
        moment = history.note("kill leader", leader.name, f"pid {leader.pid}, term {leader.term}")
        history.kills.append(Kill(moment.at_s, leader.name, leader.pid))
        await asyncio.to_thread(_watch_return, cluster, history)


def _watch_return(cluster: Cluster, history: History) -> None:
    """Waits until a new leader is known and the killed node answers under a new pid; notes both."""
    killed = history.kills[-1]

    def led_by_another(status: ClusterStatus) -> bool:
        return status.leader is not None and (leader := leader_of(status)) is not None and leader.pid != killed.pid

    def complete(status: ClusterStatus) -> bool:
        return led_by_another(status) and status.all_ready and status.node(killed.node).pid != killed.pid

    status = cluster.wait_for(led_by_another, RESTART_TIMEOUT_S, "a new leader")
    history.note("new leader", status.leader or "", f"term {max(node.term for node in status.nodes)}")
    cluster.wait_for(complete, RESTART_TIMEOUT_S, f"{killed.node} to come back")
    moment = history.note("back", killed.node)
    history.kills[-1] = dataclasses.replace(killed, alive_again_s=moment.at_s)
