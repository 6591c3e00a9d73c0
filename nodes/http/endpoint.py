"""An endpoint of the admin API is declared, not programmed: what it takes and gives, what it needs, whose it is about.

From the declaration come the route, the validation, the authorisation (nodes/http/calls.py) and the description in
OpenAPI (nodes/http/openapi.py). The handler has a `call` and, by annotation, a validated `body` and `query`.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_type_hints

from aiohttp import web
from pydantic import BaseModel

if TYPE_CHECKING:
    from nodes.http.places import Place
    from nodes.http.rows import MadeOf

Answered = dict[str, Any] | web.StreamResponse
Handler = Callable[..., Awaitable[Answered]]
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
# fresh: waits for what was acknowledged anywhere, and says so where it can not; strict: refuses where it can not;
# local: what this node knows
Reads = Literal["fresh", "strict", "local"]


JSON_LINES = ("application/x-ndjson", "application/jsonl")  # names of the same; the first where none is asked for
ANYBODY = ""  # who asks is not asked
ANYBODY_KNOWN = "*"  # whoever has a certificate or a token


class Bytes(NamedTuple):
    """A body or an answer that is no JSON."""

    content_type: str = "application/octet-stream"


class Lines(NamedTuple):
    """An answer of JSON lines (JSON_LINES), each like the model; it comes while the work is done."""

    line: type[BaseModel]


Answer = type[BaseModel] | Bytes | Lines


class Endpoint(NamedTuple):
    """See Endpoints."""

    method: Method
    path: str
    permission: str
    place: Place
    handler: Handler
    answer: Answer
    status: int
    reads: Reads
    problems: tuple[str, ...]
    body: type[BaseModel] | Bytes | None
    query: type[BaseModel] | None
    topic: str
    nodes: bool
    secret: bool
    once: bool
    made_of: MadeOf | None

    @property
    def summary(self) -> str:
        return self.text.partition("\n")[0].rstrip(".")

    @property
    def text(self) -> str:
        return inspect.getdoc(self.handler) or ""

    @property
    def takes_key(self) -> bool:
        """Whether it is carried out once under an Idempotency-Key."""
        long = isinstance(self.answer, Lines | Bytes) or isinstance(self.body, Bytes)
        return self.method != "GET" and self.once and not long

    @property
    def name(self) -> str:
        """Unlike that of any other, for programs that are made from the description."""
        return f"{self.topic}.{self.handler.__name__.rstrip('_')}"


class Endpoints:
    """The endpoints of one module; each is added by a decorator."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.all: list[Endpoint] = []

    def get(self, path: str, permission: str, place: Place, answer: Answer, **how: Any) -> Callable[[Handler], Handler]:
        """Reads something; see `add`."""
        return self.add("GET", path, permission, place, answer, **how)

    def post(
        self, path: str, permission: str, place: Place, answer: Answer, **how: Any
    ) -> Callable[[Handler], Handler]:
        """Makes or does something; see `add`."""
        return self.add("POST", path, permission, place, answer, **how)

    def put(self, path: str, permission: str, place: Place, answer: Answer, **how: Any) -> Callable[[Handler], Handler]:
        """Sets something; see `add`."""
        return self.add("PUT", path, permission, place, answer, **how)

    def patch(
        self, path: str, permission: str, place: Place, answer: Answer, **how: Any
    ) -> Callable[[Handler], Handler]:
        """Changes part of something; see `add`."""
        return self.add("PATCH", path, permission, place, answer, **how)

    def delete(
        self, path: str, permission: str, place: Place, answer: Answer, **how: Any
    ) -> Callable[[Handler], Handler]:
        """Removes something; see `add`."""
        return self.add("DELETE", path, permission, place, answer, **how)

    def add(
        self,
        method: Method,
        path: str,
        permission: str,
        place: Place,
        answer: Answer,
        *,
        status: int = 200,
        reads: Reads | None = None,
        problems: Sequence[str] = (),
        body: Bytes | None = None,
        nodes: bool = False,
        secret: bool = False,
        once: bool = True,
        made_of: MadeOf | None = None,
    ) -> Callable[[Handler], Handler]:
        """The decorated function `async def (call, body: Model, query: Model)` answers `method path`.

        permission: `topic:read` or `topic:write`; ANYBODY, or ANYBODY_KNOWN, where it needs none. place: whose thing it
        is (nodes/http/places.py). answer: the model of the JSON object that the handler gives, or what it streams.
        reads: "fresh" unless told otherwise for GET, else "strict". problems: codes that it can answer besides those
        that all can. body: for one that is no JSON, which the handler reads itself. nodes: a node of the cell may ask
        it too, by its certificate. secret: the answer has what is told once and never kept. once: False where it may be
        repeated without harm, and is not one record. made_of: the rows whose versions are in the ETag of a GET, and
        that If-Match is about where the same are changed (nodes/http/rows.py).
        """

        def declared(handler: Handler) -> Handler:
            hints = get_type_hints(handler)
            changes = method != "GET" and made_of is not None
            self.all.append(
                Endpoint(
                    *(method, path, permission, place, handler, answer, status),
                    reads or ("fresh" if method == "GET" else "strict"),
                    (*problems, *(["has_changed"] if changes else [])),
                    body or hints.get("body"),
                    hints.get("query"),
                    self.topic,
                    nodes,
                    secret,
                    once,
                    made_of,
                )
            )
            return handler

        return declared
