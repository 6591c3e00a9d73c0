"""Guessing passwords gets slow, then impossible; connections are counted."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from nodes.config.node import LimitsSection
from nodes.failures import REMEMBERED
from nodes.logins import security
from nodes.logins.security import (
    ConnectionLimit,
    LoginGuard,
    TooManyFailures,
    is_loopback,
    may_send_password,
    network_of,
)

Run = Callable[[Coroutine[Any, Any, Any]], Any]

LIMITS = LimitsSection(auth_failures=3, auth_delay_s=0.02, auth_delay_max_s=0.1, auth_block_after=6, auth_window_s=60)


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


async def waited_s(guard: LoginGuard, address: str = "192.0.2.1", login: str = "alice") -> float:
    started = time.monotonic()
    await guard.attempt(address, login)
    return time.monotonic() - started


def test_a_first_attempt_does_not_wait(run: Run) -> None:
    assert run(waited_s(LoginGuard(LIMITS))) < 0.015


def test_the_delay_doubles_up_to_its_most(run: Run) -> None:
    async def delays() -> list[float]:
        guard, found = LoginGuard(LIMITS), []
        for _ in range(5):
            guard.failed("192.0.2.1", "alice")
            found.append(await waited_s(guard))
        return found

    found = run(delays())
    for delay, expected in zip(found, (0.02, 0.04, 0.08, 0.1, 0.1)):
        assert expected * 0.9 <= delay < expected + 0.05


def test_another_login_or_address_does_not_wait(run: Run) -> None:
    async def delays() -> tuple[float, float]:
        guard = LoginGuard(LIMITS)
        guard.failed("192.0.2.1", "alice")
        return await waited_s(guard, login="bob"), await waited_s(guard, address="192.0.2.2")

    assert max(run(delays())) < 0.015


def test_the_case_of_the_login_gives_no_fresh_start(run: Run) -> None:
    async def delay() -> float:
        guard = LoginGuard(LIMITS)
        guard.failed("192.0.2.1", "Alice ")
        return await waited_s(guard, login="aLICE")

    assert run(delay()) >= 0.018


def test_many_connections_do_not_shorten_the_delay(run: Run) -> None:
    async def total() -> float:
        guard = LoginGuard(LIMITS)
        guard.failed("192.0.2.1", "alice")
        started = time.monotonic()
        await asyncio.gather(*(guard.attempt("192.0.2.1", "alice") for _ in range(5)))
        return time.monotonic() - started

    assert run(total()) >= 5 * 0.018


def test_a_connection_is_closed_after_so_many_failures() -> None:
    guard = LoginGuard(LIMITS)
    assert [guard.failed("192.0.2.1", "alice") for _ in range(6)] == [False, False, True, False, False, True]


def test_after_too_many_failures_attempts_are_refused_until_the_window_is_over(run: Run) -> None:
    async def attempt() -> float:
        clock = Clock()
        guard = LoginGuard(LIMITS, now_s=clock)
        for _ in range(LIMITS.auth_block_after):
            guard.failed("192.0.2.1", "alice")
        with pytest.raises(TooManyFailures):
            await guard.attempt("192.0.2.1", "alice")
        clock.now_s += LIMITS.auth_window_s + 1
        return await waited_s(guard)

    assert run(attempt()) < 0.015


def test_a_success_forgets_the_failures(run: Run) -> None:
    async def delay() -> float:
        guard = LoginGuard(LIMITS)
        guard.failed("192.0.2.1", "alice")
        guard.succeeded("192.0.2.1", "alice")
        return await waited_s(guard)

    assert run(delay()) < 0.015


def test_what_is_remembered_is_bounded() -> None:
    guard = LoginGuard(LIMITS)
    for number in range(REMEMBERED + 100):
        guard.failed("192.0.2.1", f"login-{number}")
    assert len(guard.failures) == REMEMBERED


FEW = LIMITS.model_copy(update={"auth_delay_s": 0.0, "auth_free_of_network": 3, "auth_free_of_login": 3})


def refused(run: Run, guard: LoginGuard, address: str, login: str) -> bool:
    async def scenario() -> bool:
        try:
            await guard.attempt(address, login)
        except TooManyFailures:
            return True
        return False

    found: bool = run(scenario())
    return found


def test_a_network_that_tries_many_logins_is_slowed_then_refused_whatever_it_tries(run: Run) -> None:
    guard = LoginGuard(FEW)
    waits = []
    for number in range(10 * FEW.auth_block_after):
        keys = security._Keys.of("192.0.2.1", f"user{number}")
        waits.append(guard._excess(keys.network, FEW.auth_free_of_network))
        guard.failed("192.0.2.1", f"user{number}")
    assert waits[:6] == [0, 0, 0, 0, 1, 2]
    assert refused(run, guard, "192.0.2.1", "somebody-else")
    assert not refused(run, guard, "192.0.2.2", "somebody-else")


def test_a_flood_against_an_account_refuses_strangers_and_not_who_is_known(run: Run) -> None:
    guard = LoginGuard(FEW)
    guard.succeeded("198.51.100.7", "alice")
    for number in range(10 * FEW.auth_block_after):
        guard.failed(f"192.0.2.{number}", "alice")
    assert refused(run, guard, "203.0.113.9", "alice")
    assert not refused(run, guard, "198.51.100.7", "Alice")
    assert not refused(run, guard, "203.0.113.9", "bob")


def test_who_is_known_is_still_slowed_by_failures_of_its_own(run: Run) -> None:
    guard = LoginGuard(FEW)
    guard.succeeded("198.51.100.7", "alice")
    for _ in range(FEW.auth_block_after):
        guard.failed("198.51.100.7", "alice")
    assert refused(run, guard, "198.51.100.7", "alice")


def test_codes_are_tried_a_few_times_from_wherever_and_who_is_known_may_go_on() -> None:
    guard = LoginGuard(FEW)
    guard.succeeded("198.51.100.7", "alice")
    for number in range(FEW.auth_block_after):
        assert guard.may_try_code(f"192.0.2.{number}", "alice")
        guard.code_failed("Alice")
    assert not guard.may_try_code("203.0.113.9", "alice")
    assert guard.may_try_code("198.51.100.7", "alice")
    assert guard.may_try_code("203.0.113.9", "bob")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_an_ipv6_client_has_its_whole_64(one: str, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same


def told(source: LoginGuard, target: LoginGuard, name: str) -> None:
    for ours, theirs in ((source.failures, target.failures), (source.successes, target.successes)):
        while (data := ours.changes()) is not None:
            theirs.merge(name, data)
            if not ours._changed:
                break


def test_what_one_node_counted_counts_at_the_others(run: Run) -> None:
    first, second = LoginGuard(LIMITS), LoginGuard(LIMITS)
    for _ in range(LIMITS.auth_block_after):
        first.failed("192.0.2.1", "alice")
    assert not refused(run, second, "192.0.2.1", "alice")
    told(first, second, "n1")
    told(first, second, "n1")  # what is told twice counts once
    assert second.failures.count(security._Keys.of("192.0.2.1", "alice").pair) == LIMITS.auth_block_after
    assert refused(run, second, "192.0.2.1", "alice")
    second.succeeded("192.0.2.1", "alice")
    told(second, first, "n2")
    assert not refused(run, first, "192.0.2.1", "alice")


def test_a_burst_is_told_of_once_and_what_follows_a_minute_later() -> None:
    clock = Clock()
    guard = LoginGuard(LIMITS, now_s=clock)
    for number in range(7):
        guard.failed(f"192.0.2.{number % 2}", "Alice")
    ((login, burst),) = guard.bursts(5)
    assert (login, burst.attempts, len(burst.networks)) == ("alice", 7, 2)
    guard.failed("192.0.2.1", "bob")
    for _ in range(6):
        guard.failed("192.0.2.1", "alice")
    assert guard.bursts(5) == []
    clock.now_s += 61
    ((login, burst),) = guard.bursts(5)
    assert (login, burst.attempts) == ("alice", 6)
    guard.keep(login, burst)
    clock.now_s += 61
    assert [(login, burst.attempts) for login, burst in guard.bursts(5)] == [("alice", 6)]


def test_connections_are_limited_by_address_and_together() -> None:
    limit = ConnectionLimit(LimitsSection(connections=3, connections_per_address=2))
    assert [limit.admit("a"), limit.admit("a"), limit.admit("a")] == [True, True, False]
    assert [limit.admit("b"), limit.admit("c")] == [True, False]
    limit.release("a")
    assert limit.admit("c")


@pytest.mark.parametrize(
    ("address", "answer"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("", True), ("192.0.2.1", False), ("localhost", False)],
)
def test_loopback_is_this_machine_itself(address: str, answer: bool) -> None:
    assert is_loopback(address) is answer


@pytest.mark.parametrize(
    ("policy", "address", "tls", "answer"),
    [
        ("never", "127.0.0.1", False, False),
        ("never", "192.0.2.1", True, True),
        ("loopback", "127.0.0.1", False, True),
        ("loopback", "192.0.2.1", False, False),
    ],
)
def test_a_password_comes_in_clear_only_where_that_is_allowed(
    policy: str, address: str, tls: bool, answer: bool
) -> None:
    assert may_send_password(policy, address, tls=tls) is answer
