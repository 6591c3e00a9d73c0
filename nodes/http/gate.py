"""What keeps a flood from the node: how many requests it works on at a time, and how many wrong tokens it answers.

Everything here is in memory, bounded, and lives on the event loop. What is refused costs next to nothing: no body is
read for it, and nothing is looked up.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nodes.http.errors import ApiError
from nodes.logins.security import network_of

AT_ONCE = 128  # requests in work, of all callers
AT_ONCE_OF_ONE = 48  # of one network address
WRONG_TOKENS = 20  # of one network, and then one more every so often
WRONG_TOKEN_S = 3.0
MOST_NETWORKS = 10_000
RETRY_S = 1


class Gate:
    """One for each node."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._in_work = 0
        self._of_one: dict[str, int] = {}
        self._wrong: OrderedDict[str, float] = OrderedDict()  # until when a network's wrong tokens count

    @contextmanager
    def work(self, address: str) -> Iterator[None]:
        """While a request is worked on. Raises ApiError (429, 503) where there are too many."""
        network = network_of(address)
        mine = self._of_one.get(network, 0)
        if mine >= AT_ONCE_OF_ONE:
            raise _too_many(429, "too_many", f"{mine} requests from {network} are in work", RETRY_S)
        if self._in_work >= AT_ONCE:
            raise _too_many(503, "not_ready", "this node has enough requests in work", RETRY_S)
        self._in_work += 1
        self._of_one[network] = mine + 1
        try:
            yield
        finally:
            self._in_work -= 1
            self._of_one[network] -= 1
            if not self._of_one[network]:
                del self._of_one[network]

    def wrong_token(self, address: str) -> None:
        """A token was wrong; looking at it costs a hash, so that those that are good never wait for those that are not.

        Raises ApiError (429) where too many from there were.
        """
        network, now_s = network_of(address), self._now_s()
        left_s = self._wrong.get(network, 0.0) - now_s - WRONG_TOKENS * WRONG_TOKEN_S
        if left_s > 0:
            raise _too_many(429, "too_many", "too many wrong tokens came from there", max(1, round(left_s)))
        self._wrong[network] = max(self._wrong.pop(network, 0.0), now_s) + WRONG_TOKEN_S
        while len(self._wrong) > MOST_NETWORKS:
            self._wrong.popitem(last=False)


def _too_many(status: int, category: str, text: str, retry_s: int) -> ApiError:
    code = "too_many_requests" if status == 429 else "too_busy"
    headers = {"Retry-After": str(retry_s)}
    return ApiError(status, category, text, "the request again later", code=code, headers=headers)
