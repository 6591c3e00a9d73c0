"""Fixtures that every test folder shares. Tests are plain functions; one that needs a loop runs a coroutine on it."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs a coroutine to its end on a fresh uvloop, the loop that nodes use: `assert run(ask()) == answer`."""
    return uvloop.run
