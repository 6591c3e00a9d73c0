"""mbsync keeps a Maildir and an account alike through leaders that are killed in the middle of it.

`make test` does it with a thousand messages, `make mbsync` with ten thousand (MBSYNC_MESSAGES).
"""

import os
import signal
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from chaos.cluster import Cluster
from tests.acceptance.maildirs import Far, Flags, Message, Near
from tests.acceptance.site import ALICE, need

MESSAGES = int(os.environ.get("MBSYNC_MESSAGES", "1000"))
RUNS = 40  # until it must have ended
FOLDERS = ("INBOX", "Archive/2026", "Some Lists")
FROM_HOME = "From Home"


class Account:
    """The account on a cluster whose leaders are killed while mbsync works."""

    def __init__(self, cluster: Cluster, near: Near) -> None:
        self.cluster = cluster
        self.near = near
        self.password = cluster.add_accounts("example", (ALICE,))
        self.kills = 0
        self.runs = 0

    def far(self, node: int = 0) -> Far:
        return Far(self.cluster.status().nodes[node].endpoints["imap"], ALICE, self.password)

    def sync_through_kills(self, kills: int, steps: int) -> None:
        """Runs mbsync, kills the leader each time it has gone so many steps, and runs it again until it ends.

        It talks to the leader and to a follower in turn.
        """
        left, talks_to_leader = kills, cycle((True, False))
        for _ in range(RUNS):
            status = self.cluster.wait_settled()
            leads = next(talks_to_leader)
            node = next(one for one in status.nodes if (one.name == status.leader) == leads)
            leader = next(one for one in status.nodes if one.name == status.leader)
            self.runs += 1
            syncing = self.near.sync(node.endpoints["imap"], ALICE, self.password)
            try:
                while left and syncing.poll() is None:
                    if self.near.progress() >= steps:
                        os.kill(leader.pid, signal.SIGKILL)
                        left, self.kills = left - 1, self.kills + 1
                        break
                    time.sleep(0.002)
                said, _ = syncing.communicate(timeout=300)
            finally:
                syncing.kill()
                syncing.wait()
            if syncing.returncode == 0 and not left:
                return
        pytest.fail(f"mbsync did not end: {said[-2000:]}")


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    need("mbsync")
    with Cluster(tmp_path / "cluster") as cluster:
        yield Account(cluster, Near(tmp_path / "mail"))


def share(kind: str, count: int, flags: Flags = frozenset()) -> dict[str, list[Message]]:
    """So many messages over the folders."""
    names = [f"{kind}-{number}@example.test" for number in range(count)]
    return {folder: [Message(name, flags) for name in names[at :: len(FOLDERS)]] for at, folder in enumerate(FOLDERS)}


def check_alike(account: Account, expected: dict[tuple[str, str], Flags]) -> dict[tuple[str, int, int], str]:
    """Both sides hold what is expected, once each, and every node says so; gives what each UID stands for."""
    account.cluster.wait_settled()
    here, counted_here = account.near.held()
    assert {key: flags for key, (flags, _) in here.items()} == expected
    assert set(counted_here.values()) == {1}
    seen = []
    for node in range(3):
        with account.far(node) as far:
            there, counted_there, by_uid = far.held()
            assert there == here
            assert counted_there == counted_here
            assert far.folders() == account.near.folders()
        seen.append(by_uid)
    assert seen[0] == seen[1] == seen[2]
    return seen[0]


@pytest.mark.timeout(300 + MESSAGES // 5)
def test_mbsync_ends_with_both_sides_alike_though_leaders_are_killed_in_the_middle(account: Account) -> None:
    near = account.near
    expected: dict[tuple[str, str], Flags] = {}
    there, here = share("there", MESSAGES // 2), share("here", MESSAGES // 2, frozenset({"\\Seen"}))
    here[FROM_HOME] = [Message("made-at-home@example.test")]
    with account.far() as far:
        for folder, messages in there.items():
            far.add(folder, messages)
    for folder, messages in here.items():
        near.add(folder, messages)
    for side in (there, here):
        expected |= {(folder, one.id): one.flags for folder, messages in side.items() for one in messages}
    account.sync_through_kills(kills=2, steps=MESSAGES // 3)
    before = check_alike(account, expected)

    change_both_sides(account, expected)
    account.sync_through_kills(kills=2, steps=MESSAGES // 50)
    after = check_alike(account, expected)
    assert account.kills == 4
    print(f"{MESSAGES} messages: {account.runs} runs of mbsync, {account.kills} leaders killed")

    assert {key[:2] for key in before} == {key[:2] for key in after}  # the UIDs are still valid
    assert all(after[key] == one for key, one in before.items() if key in after)
    highest = {folder: max(uid for name, _, uid in before if name == folder) for folder, _, _ in before}
    assert all(uid > highest[folder] for folder, validity, uid in after.keys() - before.keys())


def change_both_sides(account: Account, expected: dict[tuple[str, str], Flags]) -> None:
    """Of ten messages one is marked there, one here, one on both sides, one goes there, one here; new ones come."""
    near = account.near
    fresh = {"fresh-there": share("fresh-there", MESSAGES // 20), "fresh-here": share("fresh-here", MESSAGES // 20)}
    with account.far() as far:
        for folder in FOLDERS:
            ids = sorted(one for name, one in expected if name == folder)
            far.mark(folder, [*ids[0::10], *ids[2::10]], "\\Flagged")
            near.mark(folder, [*ids[1::10], *ids[2::10]], "R")
            far.expunge(folder, ids[3::10])
            near.mark(folder, ids[4::10], "T")
            far.add(folder, fresh["fresh-there"][folder])
            near.add(folder, fresh["fresh-here"][folder])
            for one in (*ids[0::10], *ids[2::10]):
                expected[folder, one] |= {"\\Flagged"}
            for one in (*ids[1::10], *ids[2::10]):
                expected[folder, one] |= {"\\Answered"}
            for one in (*ids[3::10], *ids[4::10]):
                del expected[folder, one]
            expected.update({(folder, one.id): one.flags for side in fresh.values() for one in side[folder]})
