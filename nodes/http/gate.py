"""What keeps a flood from the node: how many requests it works on at a time, and how many wrong tokens it answers.

Everything here is in memory, bounded, and lives on the event loop. What is refused costs next to nothing: no body is
read for it, and nothing is looked up.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nodes.config.http import HttpSection
from nodes.http.errors import ApiError, of_code
from nodes.logins.security import network_of

MOST_NETWORKS = 10_000
RETRY_S = 1


class Gate:
    """One for each node. `settings` gives what is configured now."""

    def __init__(self, settings: Callable[[], HttpSection], now_s: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._now_s = now_s
        self._in_work = 0
        self._of_one: dict[str, int] = {}
        self._wrong: OrderedDict[str, float] = OrderedDict()  # until when a network's wrong tokens count

    @contextmanager
    def work(self, address: str, is_ours: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """While a request is worked on. Raises ApiError (429, 503) where there are too many.

        `is_ours`: whether a certificate of the cell is shown, which is asked only where it counts: whoever has one is
        not measured by the address, which may be that of a flood, and has a reserve beyond the limit of all.
        """
        settings, network = self._settings(), network_of(address)
        mine = self._of_one.get(network, 0)
        full = self._in_work >= settings.requests
        if (full or mine >= settings.requests_per_address) and not is_ours():
            if full:
                raise _too_many("too_busy", "this node has enough requests in work", RETRY_S)
            raise _too_many("too_many_requests", f"{mine} requests from {network} are in work", RETRY_S)
        if self._in_work >= settings.requests + settings.reserved_requests:
            raise _too_many("too_busy", "this node has enough requests in work", RETRY_S)
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
        settings = self._settings()
        left_s = self._wrong.get(network, 0.0) - now_s - settings.wrong_tokens * settings.wrong_token_s
        if left_s > 0:
            raise _too_many("too_many_requests", "too many wrong tokens came from there", max(1, round(left_s)))
        self._wrong[network] = max(self._wrong.pop(network, 0.0), now_s) + settings.wrong_token_s
        while len(self._wrong) > MOST_NETWORKS:
            self._wrong.popitem(last=False)


def _too_many(code: str, text: str, retry_s: int) -> ApiError:
    return of_code(code, text, "the request again later", headers={"Retry-After": str(retry_s)})
