"""What a fault is: something that is done to nodes, lasts as long as a block, and is undone at its end for certain.

A fault is an async generator of one yield: before it, harm is done; it yields the nodes and what was done; after it,
harm is undone, in a `finally` where the fault does not undo itself. `@fault` names it, lists it, and notes in the
history when it began and ended. A fault knows nodes, processes, networks and time, nothing of mail or of checks.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Concatenate, NamedTuple, ParamSpec

from chaos.site import Site, joined

P = ParamSpec("P")


class Done(NamedTuple):
    """To which nodes it was done, and what exactly."""

    nodes: tuple[str, ...]
    detail: str = ""


class FaultKind(NamedTuple):
    """A line of `mailraft chaos list`; `missing` says what this machine lacks for it, "" if nothing."""

    name: str
    summary: str
    missing: Callable[[], str]


FAULTS: dict[str, FaultKind] = {}
Injection = Callable[Concatenate[Site, P], AsyncIterator[Done]]
Fault = Callable[Concatenate[Site, P], AbstractAsyncContextManager[None]]


def nothing() -> str:
    return ""


def fault(name: str, summary: str, missing: Callable[[], str] = nothing) -> Callable[[Injection[P]], Fault[P]]:
    """Registers the fault `name`; what it decorates becomes `async with kind(site, ...)`."""

    def register(injection: Injection[P]) -> Fault[P]:
        FAULTS[name] = FaultKind(name, summary, missing)
        injected = asynccontextmanager(injection)

        @asynccontextmanager
        async def noted(site: Site, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[None]:
            async with injected(site, *args, **kwargs) as done:
                band = site.history.begin_fault(name, joined(done.nodes), done.detail)
                yield
            site.history.end_fault(band)

        return noted

    return register
