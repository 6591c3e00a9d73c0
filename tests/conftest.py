"""Fixtures that every test folder shares. Tests are plain functions; one that needs a loop runs a coroutine on it."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

LIMIT_S = 100.0  # below pytest's own timeout, which can only end the whole run: uvloop swallows what a signal raises


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-scripts", action="store_true", help="write the traces of tests/eventlog/scripts as they are now"
    )


def pytest_configure() -> None:
    """A shell without job control has what it starts in the background ignore SIGINT: programs under test must not."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs a coroutine to its end on a fresh uvloop, the loop that nodes use: `assert run(ask()) == answer`."""

    async def bounded(coroutine: Coroutine[Any, Any, Any]) -> Any:
        async with asyncio.timeout(LIMIT_S):
            return await coroutine

    return lambda coroutine: uvloop.run(bounded(coroutine))
