"""Spans for an OpenTelemetry collector: of connections, their commands, records, and attempts to deliver.

A trace is a connection, and its id is the connection's (nodes/trail.py): whoever delivers the mail that came over it,
on whatever node and however late, adds to the same trace without being told of it. Spans carry the tenant, the code of
an error, positions and the ids of items; no address of a client, no account, no text.

Where tracing is off (`services.tracing` is None) a caller does no more than see that. What is made is kept in a queue
of a bounded length, and dropped where the collector does not take it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from actors.errors import CommandRefused
from eventlog.errors import LogError
from nodes.trail import CODE, TRAIL, Trail

if TYPE_CHECKING:
    from actors.runtime import Context
    from nodes.config.node import NodeConfig
    from nodes.config.tracing import TracingSection

PARENT: ContextVar[Any] = ContextVar("parent", default=None)  # the span of the command that is carried out


def tracing_of(config: NodeConfig, stack: AsyncExitStack) -> Tracing | None:
    """As it is configured; None where it is off. Stopped with the stack."""
    if not config.tracing.enabled:
        return None
    tracing = Tracing(config.tracing, config.node.name)
    stack.push_async_callback(asyncio.to_thread, tracing.stop)
    return tracing


class Tracing:
    """One for each node. Raises ImportError where OpenTelemetry is not installed."""

    def __init__(self, section: TracingSection, node: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

        exporter = OTLPSpanExporter(
            endpoint=section.endpoint,
            certificate_file=str(section.ca) if section.ca is not None else None,
            timeout=section.timeout_s,
        )
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(section.sample)),
            resource=Resource.create({"service.name": "mailraft", "service.instance.id": node}),
            id_generator=_ids(),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("mailraft")

    def stop(self) -> None:
        """Sends what is left; waits for the collector, at most its timeout."""
        self._provider.shutdown()

    def opened(self, trail: Trail) -> None:
        """A connection has begun: what follows on it is below its span."""
        with _of(trail):
            trail.span = self._tracer.start_span("connection", attributes=_attributes(trail))

    def closed(self, trail: Trail) -> None:
        """It has ended; by now it may be known whose it was."""
        span, trail.span = trail.span, None
        if span is not None:
            span.set_attributes(_attributes(trail))
            span.end()

    @contextlib.contextmanager
    def command(self, trail: Trail, name: str) -> Iterator[Any]:
        """While a command is carried out; what is written and delivered meanwhile is below its span."""
        with _of(trail), self._span(name, trail.span, _attributes(trail)) as span:
            token = PARENT.set(span)
            try:
                yield span
            finally:
                PARENT.reset(token)

    def did(self, trail: Trail, name: str, began_ns: int, code: str) -> None:
        """A command was carried out at once; `code`: what it was refused for, or ""."""
        with _of(trail):
            attributes = _attributes(trail) | ({CODE: code} if code else {})
            parent = _below(trail.span)
            self._tracer.start_span(name, parent, attributes=attributes, start_time=began_ns).end(time.time_ns())

    @contextlib.contextmanager
    def record(self, context: Context) -> Iterator[Any]:
        """From the decision to the fold on this node, through the commit (actors/runtime.py)."""
        trail = TRAIL.get()
        parent = PARENT.get() or (trail.span if trail is not None else None)
        attributes = {"mailraft.cause": context.cause} | ({} if trail is None else _attributes(trail))
        with self._span("record", parent, attributes) as span:
            yield span

    @contextlib.contextmanager
    def attempt(self, trail: Trail, item: bytes, domain: str) -> Iterator[Any]:
        """While a message is sent to the servers of a domain."""
        attributes = {"mailraft.item": item.hex(), "mailraft.domain": domain, **_attributes(trail)}
        with self._span("delivery attempt", None, attributes) as span:
            yield span

    @contextlib.contextmanager
    def _span(self, name: str, parent: Any, attributes: dict[str, str]) -> Iterator[Any]:
        span = self._tracer.start_span(name, _below(parent), attributes=attributes)
        try:
            yield span
        except (CommandRefused, LogError) as error:
            span.set_attribute(CODE, error.code)
            raise
        finally:
            span.end()


def _below(parent: Any) -> Any:
    from opentelemetry.context import Context
    from opentelemetry.trace import set_span_in_context

    return Context() if parent is None else set_span_in_context(parent, Context())


def _attributes(trail: Trail) -> dict[str, str]:
    found = {"mailraft.session": trail.id, "mailraft.listener": trail.listener}
    return found | {"mailraft.tenant": trail.tenant} if trail.tenant else found


@contextlib.contextmanager
def _of(trail: Trail) -> Iterator[None]:
    """So that a trace that begins here has the connection's id."""
    token = TRAIL.set(trail)
    try:
        yield
    finally:
        TRAIL.reset(token)


def _ids() -> Any:
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            trail = TRAIL.get()
            return int(trail.id, 16) if trail is not None else super().generate_trace_id()

    return Ids()
