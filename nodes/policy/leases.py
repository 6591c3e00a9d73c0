"""Token buckets of the whole cell, exact to a lease, without the log and, as a rule, without asking anybody.

A bucket holds an hour's tokens and fills again over an hour. Each node has its share of it (shares.py), in tokens and
in what comes back; who runs out asks the others for what they have, ahead of need where it is used up quickly. What is
given is missing at the giver from then on, so whatever is lost on the way, no token is there twice. What a node is
given beyond its share is a lease: it goes back when it was not used in LEASE_S. So all nodes together give, in any
time, at most what the bucket holds, what comes in that time, and what comes in LEASE_S besides; docs/ADR/0041 says
why, and what restarts add. No I/O here but `send` and `later`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, TypeVar

import msgpack

from nodes.failures import KEY_BYTES
from nodes.policy.holdings import (
    HOUR_S,
    LEASE_S,
    PROBE_S,
    REMEMBERED,
    SLACK_S,
    Asking,
    Bucket,
    Done,
    Holdings,
    Lease,
)
from nodes.policy.shares import Share

TOPIC = "leases"
ASK_S = 0.25  # an answer that takes longer is not waited for; what it gives counts all the same
AGAIN_S = 0.1  # before others are asked again that had too little
AHEAD_S = 2.0  # what was taken in that time is asked for before it is needed again
ROUNDS = 3
HERE, ASK, GIVE, BACK = range(4)  # kinds of messages

Send = Callable[[str, bytes], bool]
Later = Callable[[float, Callable[[], None]], Any]


class Want(Protocol):
    """A token of a bucket that fills by so many an hour. Keys are of nodes.failures.key_of."""

    @property
    def key(self) -> bytes: ...
    @property
    def per_hour(self) -> int: ...


W = TypeVar("W", bound=Want)


class Tokens(Protocol):
    """What policies ask for tokens: Leases, or in a worker nodes/policy/borrowed.py."""

    def lacking(self, wants: Iterable[W]) -> list[W]: ...
    async def gather(self, lacking: Iterable[Want]) -> None: ...
    def wait_s(self, key: bytes, per_hour: int) -> float: ...
    def take(self, key: bytes, per_hour: int, count: int = 1) -> None: ...


class _Sent(NamedTuple):
    """What was asked for, and when: an answer counts once, and not for ever."""

    key: bytes
    asking: Asking
    at_s: float


def _nobody(peer: str, data: bytes) -> bool:
    return False


def _later(delay_s: float, callback: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(delay_s, callback)


class Leases:
    """`name` is this node's, `peers` are the other members; `changes` is told to all of them every second, `merge`
    hears what they send."""

    def __init__(
        self,
        name: str = "",
        peers: Callable[[], Iterable[str]] = tuple,
        send: Send = _nobody,
        later: Later = _later,
        now_s: Callable[[], float] = time.monotonic,
        most: int = REMEMBERED,
    ) -> None:
        self.share = Share(peers, now_s)
        self._name = name
        self._send = send
        self._later = later
        self._held = Holdings(self.share, most, self._finish)
        self._leased: set[bytes] = set()
        self._sent: dict[tuple[str, int], _Sent] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._held)

    # -- what policies ask

    def wait_s(self, key: bytes, per_hour: int) -> float:
        """Seconds until there is a token, 0: there is one, here. Takes none."""
        self.share.advance()
        bucket = self._held.find(key)
        lacks_s = HOUR_S / per_hour - self._held.has_s(bucket)
        if lacks_s <= SLACK_S:
            return 0.0
        lacks_s -= self._held.elsewhere_s(bucket)
        return max(lacks_s, AGAIN_S) / (self.share.part * (1 + len(self.share.present)))

    def take(self, key: bytes, per_hour: int, count: int = 1) -> None:
        """Takes one, or so many; never more than there are here."""
        self.share.advance()
        cost_s = min(HOUR_S * count / per_hour, HOUR_S)
        if cost_s > 0:
            bucket = self._held.touch(key)
            self._held.spend(bucket, cost_s)
            self._look_ahead(key, bucket, cost_s)

    def count(self, key: bytes, per_hour: int) -> int:
        """How many there are here."""
        self.share.advance()
        return int((self._held.has_s(self._held.find(key)) + SLACK_S) * per_hour / HOUR_S)

    def give_back(self, key: bytes, per_hour: int, count: int) -> None:
        """What was taken and not used."""
        self.share.advance()
        self._returned(key, HOUR_S * count / per_hour)

    def lacking(self, wants: Iterable[W]) -> list[W]:
        """Those that there is no token of here."""
        self.share.advance()
        held = self._held
        return [one for one in wants if HOUR_S / one.per_hour - held.has_s(held.find(one.key)) > SLACK_S]

    async def gather(self, lacking: Iterable[Want]) -> None:
        """Asks the others for a token of each, and waits until it is here, or they have none."""
        loop = asyncio.get_running_loop()
        waits = [self._fetched(loop, one) for one in lacking] if self.share.present else []
        if waits:
            await asyncio.wait(waits)

    def _fetched(self, loop: asyncio.AbstractEventLoop, want: Want) -> asyncio.Future[None]:
        future: asyncio.Future[None] = loop.create_future()
        self.fetch(want.key, HOUR_S / want.per_hour, lambda: None if future.done() else future.set_result(None))
        return future

    def fetch(self, key: bytes, most_s: float, done: Done | None = None) -> None:
        """Asks the others until so much is here; `done` is called when that is so, or is not to be had."""
        self.share.advance()
        bucket = self._held.touch(key)
        if bucket.asking is not None:
            bucket.asking.most_s = max(bucket.asking.most_s, most_s)
            bucket.asking.done += [done] if done is not None else []
            return
        bucket.asking = Asking(most_s, done)
        if self._is_in_vain(bucket, most_s):
            self._finish(bucket)
        else:
            bucket.probed_s = self.share.now_s
            self._next_round(key, bucket, bucket.asking)

    # -- what the nodes tell each other

    def changes(self) -> bytes:
        """That this node is there; and what was lent and is not used goes back."""
        self.share.review()
        for key in list(self._leased):
            self._give_back(key)
        now_s = self.share.now_s
        for number in [number for number, sent in self._sent.items() if now_s - sent.at_s > LEASE_S]:
            del self._sent[number]
        return _packed(HERE)

    def merge(self, peer: str, data: bytes) -> None:
        """What another node says. Raises ValueError for what is no such thing."""
        kind, *said = msgpack.unpackb(data, use_list=False, max_array_len=4, max_bin_len=KEY_BYTES)
        if self.share.hear(peer):
            self._send(peer, _packed(HERE))
        match kind, said:
            case [0, []]:
                pass
            case [1, [int(number), bytes(key), float(most_s)]] if len(key) == KEY_BYTES and 0 < most_s <= HOUR_S:
                self._asked(peer, number, key, most_s)
            case [2, [int(number), float(given_s), float(left_s)]] if 0 <= given_s <= HOUR_S and 0 <= left_s <= HOUR_S:
                self._given(peer, number, given_s, left_s)
            case [3, [bytes(key), float(back_s)]] if len(key) == KEY_BYTES and 0 < back_s <= HOUR_S:
                self._returned(key, back_s)
            case _:
                raise ValueError("not of leases")

    # -- asking

    def _look_ahead(self, key: bytes, bucket: Bucket, cost_s: float) -> None:
        """What is used up quickly is asked for before it is missing."""
        now_s = self.share.now_s
        if now_s - bucket.recent_at_s > AHEAD_S:
            bucket.recent_s, bucket.recent_at_s = 0.0, now_s
        bucket.recent_s = min(bucket.recent_s + cost_s, HOUR_S)
        if bucket.recent_s > cost_s and self.share.present and self._held.has_s(bucket) < bucket.recent_s:
            self.fetch(key, bucket.recent_s)

    def _is_in_vain(self, bucket: Bucket, most_s: float) -> bool:
        now_s = self.share.now_s
        if not self.share.present or now_s < bucket.again_s:
            return True
        there_s = self._held.has_s(bucket) + self._held.elsewhere_s(bucket)
        return there_s < most_s - SLACK_S and now_s < bucket.probed_s + PROBE_S

    def _next_round(self, key: bytes, bucket: Bucket, asking: Asking) -> None:
        """Asks all who may have some for an equal part of what is missing."""
        lacks_s = asking.most_s - self._held.has_s(bucket)
        peers = [peer for peer in self.share.present if peer not in asking.dry]
        if lacks_s <= SLACK_S or not peers or asking.rounds >= ROUNDS:
            self._finish(bucket)
            return
        asking.rounds += 1
        self._number += 1
        part_s = min(lacks_s / len(peers) + SLACK_S, HOUR_S)
        for peer in peers:
            if self._send(peer, _packed(ASK, self._number, key, part_s)):
                self._sent[peer, self._number] = _Sent(key, asking, self.share.now_s)
                asking.waiting.add(peer)
            else:
                asking.dry.add(peer)
        if not asking.waiting:
            self._finish(bucket)
            return
        rounds = asking.rounds
        self._later(ASK_S, lambda: self._too_late(key, asking, rounds))

    def _too_late(self, key: bytes, asking: Asking, rounds: int) -> None:
        if asking.rounds == rounds and asking.waiting:
            asking.dry |= asking.waiting
            asking.waiting.clear()
            self._round_ended(key, asking)

    def _given(self, peer: str, number: int, given_s: float, left_s: float) -> None:
        sent = self._sent.pop((peer, number), None)
        if sent is None or self.share.now_s - sent.at_s > LEASE_S:
            return
        bucket, asking = self._held.touch(sent.key), sent.asking
        bucket.lefts = {**(bucket.lefts or {}), peer: (left_s, self.share.now_s)}
        if self._held.gain(bucket, Lease(peer, given_s, sent.at_s + LEASE_S)):
            self._leased.add(sent.key)
        if peer in asking.waiting:
            asking.waiting.discard(peer)
            if left_s <= SLACK_S or given_s <= 0:
                asking.dry.add(peer)
            if not asking.waiting:
                self._round_ended(sent.key, asking)

    def _round_ended(self, key: bytes, asking: Asking) -> None:
        self.share.advance()
        bucket = self._held.find(key)
        if bucket is not None and bucket.asking is asking:
            self._next_round(key, bucket, asking)

    def _finish(self, bucket: Bucket) -> None:
        asking, bucket.asking = bucket.asking, None
        if asking is None:
            return
        if asking.rounds and self._held.has_s(bucket) < asking.most_s - SLACK_S:
            bucket.again_s = self.share.now_s + AGAIN_S
        for done in asking.done:
            done()

    # -- giving

    def _asked(self, peer: str, number: int, key: bytes, most_s: float) -> None:
        """Of two that ask each other, the one whose name comes first gets it."""
        bucket = self._held.find(key)
        own_s = self._held.own_s(bucket)
        wants_itself = bucket is not None and bucket.asking is not None and self._name < peer
        given_s = 0.0 if wants_itself else min(most_s, own_s)
        if given_s > 0:
            self._held.touch(key).missing_s += given_s
        self._send(peer, _packed(GIVE, number, given_s, own_s - given_s))

    def _give_back(self, key: bytes) -> None:
        """What was lent and not used in time."""
        bucket, now_s = self._held.find(key), self.share.now_s
        if bucket is not None:
            for lease in bucket.leases:
                if lease.until_s <= now_s:
                    self._send(lease.giver, _packed(BACK, key, lease.left_s))
            bucket.leases = tuple(lease for lease in bucket.leases if lease.until_s > now_s)
        if bucket is None or not bucket.leases:
            self._leased.discard(key)

    def _returned(self, key: bytes, back_s: float) -> None:
        bucket = self._held.find(key)
        if bucket is not None:
            bucket.missing_s = max(0.0, bucket.missing_s - back_s)


def _packed(*message: Any) -> bytes:
    packed: bytes = msgpack.packb(message)
    return packed
