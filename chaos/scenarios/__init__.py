"""One module a scenario; each reads like its title. `SCENARIOS` is what `mailraft chaos list` shows."""

from chaos.harness import Scenario
from chaos.scenarios import (
    certificate_expiry,
    certificate_rotation,
    client_flood,
    clock_skew,
    connection_resets,
    corrupt_page,
    disk_full,
    dns_failure,
    follower_kill,
    kill_all_at_once,
    leader_kill,
    memory_pressure,
    one_way_partition,
    partition_leader,
    partition_minority,
    pause,
    rolling_restart,
    slow_disk,
    slow_follower,
    slowloris,
    soak,
)

SCENARIOS: dict[str, Scenario] = {
    module.SCENARIO.name: module.SCENARIO
    for module in (
        leader_kill,
        follower_kill,
        kill_all_at_once,
        rolling_restart,
        partition_leader,
        partition_minority,
        one_way_partition,
        slow_follower,
        pause,
        connection_resets,
        disk_full,
        slow_disk,
        corrupt_page,
        memory_pressure,
        certificate_expiry,
        certificate_rotation,
        clock_skew,
        client_flood,
        slowloris,
        dns_failure,
        soak,
    )
}
