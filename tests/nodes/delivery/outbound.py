"""A transport of its own for a test, on the loop that nodes use, and messages to send with it."""

from __future__ import annotations

import atexit
import functools
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from actors.mail_options import MailOptions, RecipientOptions
from nodes.config.node import NodeConfig
from nodes.delivery.attempt import Attempt, AttemptResult, RecipientOutcome
from nodes.delivery.transport import MailTransport
from nodes.resolver import Resolver
from tests.peers import certificates

DATA = b"From: a@sender.test\r\nSubject: hello\r\n\r\n.dot\r\nbody\r\n"
T = TypeVar("T")


def attempt(
    *recipients: str,
    domain: str = "example.test",
    sender: str = "a@sender.test",
    data: bytes = DATA,
    slice_bytes: int = 16 * 1024,
    options: MailOptions = MailOptions(),  # noqa: B008 (a tuple of values)
    asked: RecipientOptions = RecipientOptions(),  # noqa: B008
    **more: Any,
) -> Attempt:
    async def read() -> AsyncIterator[bytes]:
        for start in range(0, len(data), slice_bytes):
            yield data[start : start + slice_bytes]

    pairs = tuple((one, asked) for one in recipients or (f"bob@{domain}",))
    return Attempt(b"i" * 16, domain, sender, pairs, len(data), read, options, **more)


@functools.cache
def _few_authorities() -> Path:
    """In place of the system's, whose reading takes longer than a test."""
    folder = tempfile.TemporaryDirectory(prefix="mailraft-trust-")
    atexit.register(folder.cleanup)
    path = Path(folder.name) / "ca.pem"
    path.write_bytes(certificates.authority().pem)
    return path


def config(nameserver: str, *, dns: dict[str, Any] | None = None, **delivery: Any) -> NodeConfig:
    return NodeConfig.model_validate(
        {
            "node": {"name": "n1", "cluster_id": "test", "hostname": "mx.sender.test"},
            "raft": {"listen": "127.0.0.1:0", "peers": {"n1": "127.0.0.1:1"}},
            "tls": {"ca": "ca.pem", "certificate": "node.pem", "key": "node.key"},
            "dns": {"nameservers": [nameserver], "timeout_s": 1.0, **(dns or {})},
            "delivery": {"connect_timeout_s": 5.0, "trust": _few_authorities(), **delivery},
        }
    )


def on_loop(scenario: Callable[[MailTransport], Coroutine[Any, Any, T]], settings: NodeConfig, **parts: Any) -> T:
    """The scenario with a transport that is stopped afterwards."""

    async def run() -> T:
        resolver = Resolver(settings.dns)
        transport = MailTransport(settings, resolver, **parts)
        try:
            return await scenario(transport)
        finally:
            await transport.stop()
            resolver.close()

    return uvloop.run(run())


def sent(one: Attempt, settings: NodeConfig, **parts: Any) -> AttemptResult:
    return on_loop(lambda transport: transport.send(one), settings, **parts)


def only(result: AttemptResult) -> RecipientOutcome:
    (outcome,) = result.outcomes
    return outcome
