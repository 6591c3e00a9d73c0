"""Limits on log-ins, sessions and transfer, of accounts and tenants, over all nodes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest

from actors.directory import Target
from nodes.config.policy import PolicySection
from nodes.logins.security import Limited
from nodes.metrics import Metrics
from nodes.policy.leases import HERE, Leases
from nodes.policy.login_limits import BLOCK_BYTES, MOST_PAUSE_S, SILENT_S, LoginLimits
from nodes.policy.tenants import MailPolicy

ALICE = Target(b"t" * 16, b"a" * 16, "alice@example.test")
BOB = Target(b"t" * 16, b"b" * 16, "bob@example.test")


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def limits(clock: Clock, **policy: int) -> LoginLimits:
    policies: Any = SimpleNamespace(of=lambda _: MailPolicy(**policy))  # type: ignore[arg-type]
    return LoginLimits(policies, Metrics("n1"), Leases(now_s=clock), clock)


def admit(limits: LoginLimits, target: Target) -> None:
    asyncio.run(limits.admit(target))


def neighbours(clock: Clock, **policy: int) -> list[LoginLimits]:
    """Two nodes that hear each other."""
    policies: Any = SimpleNamespace(of=lambda _: MailPolicy(**policy))  # type: ignore[arg-type]
    loop, made = asyncio.get_running_loop(), list[Leases]()

    def one(number: int) -> Leases:
        def send(peer: str, data: bytes) -> bool:
            loop.call_soon(lambda: made[1 - number].merge(f"n{number}", data))
            return True

        return Leases(f"n{number}", lambda: [f"n{1 - number}"], send, now_s=clock)

    made += [one(0), one(1)]
    for number in range(2):
        made[number].merge(f"n{1 - number}", msgpack.packb([HERE]))
    return [LoginLimits(policies, Metrics("n1"), leases, clock) for leases in made]


def tell(speaker: LoginLimits, hearer: LoginLimits, peer: str = "n2") -> None:
    for topic, one in speaker.shared.items():
        data = one.changes()
        if data is not None:
            hearer.shared[topic].merge(peer, data)


def test_sessions_of_an_account_are_counted_at_all_nodes() -> None:
    clock = Clock()
    here, there = limits(clock, account_sessions=2), limits(clock, account_sessions=2)
    leave = there.enter(ALICE)
    here.enter(ALICE)
    tell(there, here)
    with pytest.raises(Limited, match="your account has 2 sessions open, and may have no more"):
        admit(here, ALICE)
    admit(here, BOB)
    leave()
    leave()
    tell(there, here)
    admit(here, ALICE)


def test_a_node_that_says_nothing_any_more_has_no_sessions() -> None:
    clock = Clock()
    here, there = limits(clock, tenant_sessions=1), limits(clock, tenant_sessions=1)
    there.enter(ALICE)
    tell(there, here)
    with pytest.raises(Limited, match="your organisation has 1 sessions open"):
        admit(here, BOB)
    clock.now_s += SILENT_S + 1
    admit(here, BOB)


def test_log_ins_of_a_tenant_go_round_no_node() -> None:
    async def live() -> None:
        clock = Clock()
        nodes = neighbours(clock, tenant_logins_per_hour=3)
        for number, target in ((0, ALICE), (0, BOB), (1, ALICE)):
            await nodes[number].admit(target)
        for node in nodes:
            with pytest.raises(Limited, match="too many log-ins of this tenant for now, come again in 1200 seconds"):
                await node.admit(BOB)
        clock.now_s += 1200
        for node in nodes:
            assert isinstance(node.leases, Leases)
            node.leases.changes()
            node.leases.merge("n0" if node is nodes[1] else "n1", msgpack.packb([HERE]))
        await nodes[0].admit(BOB)
        with pytest.raises(Limited):
            await nodes[1].admit(BOB)

    asyncio.run(live())


def test_a_refused_log_in_takes_no_token_of_any_bucket() -> None:
    clock = Clock()
    here = limits(clock, account_logins_per_hour=1, tenant_logins_per_hour=2)
    admit(here, ALICE)
    for _ in range(3):
        with pytest.raises(Limited):
            admit(here, ALICE)
    admit(here, BOB)


def test_a_client_tries_only_so_often_whoever_it_says_it_is() -> None:
    clock = Clock()
    here = limits(clock)
    here.reload(PolicySection.model_validate({"client_logins_per_hour": 2, "exempt": ["198.51.100.0/24"]}))

    def come(client: str) -> None:
        asyncio.run(here.come(client))

    for client in ("2001:db8::1", "2001:db8::2", "192.0.2.1", *["127.0.0.1", "198.51.100.1"] * 4):
        come(client)
    with pytest.raises(Limited, match="too many log-ins of this client for now, come again in 1800 seconds"):
        come("2001:db8::3")
    clock.now_s += 1800
    come("2001:db8::3")


def test_who_was_sent_too_much_waits_longer_the_more_it_was() -> None:
    clock = Clock()
    here = limits(clock, account_bytes_per_hour=3600 * BLOCK_BYTES)
    assert here.transferred(ALICE, 1800 * BLOCK_BYTES) == 0
    assert 0 < here.transferred(ALICE, 1800 * BLOCK_BYTES) <= MOST_PAUSE_S
    assert here.transferred(BOB, BLOCK_BYTES) == 0
    clock.now_s += 600
    assert here.transferred(ALICE, BLOCK_BYTES) == 0


def test_all_accounts_of_a_tenant_share_what_it_may_be_sent() -> None:
    clock = Clock()
    here = limits(clock, tenant_bytes_per_hour=3600 * BLOCK_BYTES)
    assert here.transferred(ALICE, 1800 * BLOCK_BYTES) == here.transferred(BOB, 1700 * BLOCK_BYTES) == 0
    assert 0 < here.transferred(BOB, 100 * BLOCK_BYTES) <= MOST_PAUSE_S
    assert here.transferred(Target(b"u" * 16, b"e" * 16, "eve@other.test"), BLOCK_BYTES) == 0
    clock.now_s += 600
    assert here.transferred(ALICE, BLOCK_BYTES) == 0


@pytest.mark.parametrize("data", [b"\x91\x92\xc4\x01x\x01", b"\xc1", b"\x91\x92\xc4\x10" + b"k" * 16 + b"\xff"])
def test_what_is_no_count_of_sessions_changes_nothing(data: bytes) -> None:
    here = limits(Clock(), account_sessions=1)
    with pytest.raises(Exception, match=r".*"):
        here.sessions.merge("n2", data)
    admit(here, ALICE)
