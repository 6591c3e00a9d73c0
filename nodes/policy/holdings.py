"""What one node holds of the cluster's token buckets: its share of each, and what others have lent it.

A bucket is an hour of its rate; all is counted in seconds of it, so that a rate that is changed, or is a tenant's own,
holds from the next token on. A bucket of which nothing is missing is not kept. Bounded: what was used longest ago is
forgotten, thus full again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from nodes.policy.shares import Share

HOUR_S = 3600.0
LEASE_S = 30.0
PROBE_S = 5.0  # before others are asked that should have nothing
REMEMBERED = 131_072
SLACK_S = 1e-6  # of sums of fractions

Done = Callable[[], None]


class Lease(NamedTuple):
    giver: str
    left_s: float
    until_s: float


class Asking:
    """Others are asked for tokens of a bucket, until there are as many as `most_s`."""

    __slots__ = ("done", "dry", "most_s", "rounds", "waiting")

    def __init__(self, most_s: float, done: Done | None) -> None:
        self.most_s = most_s
        self.done = [done] if done is not None else []
        self.rounds = 0
        self.waiting: set[str] = set()
        self.dry: set[str] = set()  # who had no more


class Bucket:
    """How much of the share is missing, as of when; what is lent; and what others said that they have left."""

    __slots__ = ("again_s", "asking", "at_s", "leases", "lefts", "missing_s", "probed_s", "recent_at_s", "recent_s")

    def __init__(self, at_s: float) -> None:
        self.missing_s = 0.0
        self.at_s = at_s  # by Share.filled_s
        self.recent_s = self.recent_at_s = 0.0  # what was taken of late, and since when
        self.leases: Sequence[Lease] = ()
        self.lefts: dict[str, tuple[float, float]] | None = None
        self.asking: Asking | None = None
        self.again_s = 0.0
        self.probed_s = -PROBE_S


class Holdings:
    """Buckets by key, as of the last `share.advance`. `forgotten` hears of one that others are still asked for."""

    def __init__(self, share: Share, most: int, forgotten: Callable[[Bucket], None]) -> None:
        self._share = share
        self._most = most
        self._forgotten = forgotten
        self._buckets: OrderedDict[bytes, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def find(self, key: bytes) -> Bucket | None:
        """As of now; None: nothing is missing."""
        bucket = self._buckets.get(key)
        if bucket is not None and bucket.at_s < self._share.filled_s:
            bucket.missing_s = max(0.0, bucket.missing_s - (self._share.filled_s - bucket.at_s))
            bucket.at_s = self._share.filled_s
            if not bucket.missing_s and self._is_idle(bucket):
                del self._buckets[key]
                return None
        return bucket

    def touch(self, key: bytes) -> Bucket:
        """As of now, to be changed."""
        bucket = self.find(key)
        if bucket is not None:
            self._buckets.move_to_end(key)
            return bucket
        bucket = self._buckets[key] = Bucket(self._share.filled_s)
        while len(self._buckets) > self._most:
            self._forgotten(self._buckets.popitem(last=False)[1])
        return bucket

    def own_s(self, bucket: Bucket | None) -> float:
        """What is left of the share."""
        missing_s = bucket.missing_s if bucket is not None else 0.0
        return max(0.0, HOUR_S * self._share.part - missing_s)

    def has_s(self, bucket: Bucket | None) -> float:
        """The same, and what is lent."""
        if bucket is None or not bucket.leases:
            return self.own_s(bucket)
        now_s = self._share.now_s
        return self.own_s(bucket) + sum(lease.left_s for lease in bucket.leases if lease.until_s > now_s)

    def elsewhere_s(self, bucket: Bucket | None) -> float:
        """What the others are believed to have that are there: what they said, and what came in since."""
        return sum(self._left_s(bucket, peer) for peer in self._share.present)

    def spend(self, bucket: Bucket, cost_s: float) -> None:
        """What is lent first; never more than there is."""
        if bucket.leases:
            kept = []
            for lease in bucket.leases:
                spent_s = min(lease.left_s, cost_s) if lease.until_s > self._share.now_s else 0.0
                cost_s -= spent_s
                if lease.left_s > spent_s:
                    kept.append(lease._replace(left_s=lease.left_s - spent_s))
            bucket.leases = tuple(kept)
        bucket.missing_s += min(cost_s, self.own_s(bucket))

    def gain(self, bucket: Bucket, lease: Lease) -> bool:
        """First it pays what is missing of the share; True: the rest is lent."""
        own_s = min(lease.left_s, bucket.missing_s)
        bucket.missing_s -= own_s
        if lease.left_s <= own_s:
            return False
        bucket.leases = (*bucket.leases, lease._replace(left_s=lease.left_s - own_s))
        return True

    def _left_s(self, bucket: Bucket | None, peer: str) -> float:
        most_s = HOUR_S * self._share.part
        said = bucket.lefts.get(peer) if bucket is not None and bucket.lefts is not None else None
        return most_s if said is None else min(said[0] + (self._share.now_s - said[1]) * self._share.part, most_s)

    def _is_idle(self, bucket: Bucket) -> bool:
        if bucket.leases or bucket.asking is not None:
            return False
        most_s = HOUR_S * self._share.part
        return bucket.lefts is None or all(self._left_s(bucket, peer) >= most_s for peer in bucket.lefts)
