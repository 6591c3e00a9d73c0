"""Long answers: what a process of its own prints (nodes/jobs.py), as it comes."""

from __future__ import annotations

import contextlib
from typing import Any

from aiohttp import web
from pydantic import ConfigDict, Field

from nodes import jobs
from nodes.http.calls import Call
from nodes.http.endpoint import JSON_LINES, Lines
from nodes.http.models import Model


class JobLine(Model):
    """Progress any number of times, and what is found; the last line has a result or an error."""

    model_config = ConfigDict(extra="allow")

    progress: list[int] | None = Field(None, description="How much is done, of how much.", examples=[[10, 100]])
    result: dict[str, Any] | None = Field(None, description="It is done, and this came of it.")
    error: str | None = Field(None, description="It was not done to its end, and why.")


def lines_of(line: type[Model] = JobLine) -> Lines:
    """An answer of such lines."""
    return Lines(line)


def lines_response(request: web.Request) -> web.StreamResponse:
    """For lines of JSON, under the name that the client prefers (RFC 9110 12.5.1)."""
    wanted = request.headers.get("Accept", "")
    named = [one.partition(";")[0].strip().lower() for one in wanted.split(",")]
    content_type = next((one for one in named if one in JSON_LINES), JSON_LINES[0])
    return web.StreamResponse(headers={"Content-Type": content_type})


async def stream_job(call: Call, job: str, *arguments: str) -> web.StreamResponse:
    """The lines that a job prints about this node's database."""
    path = call.services.config.node.data_dir
    response = lines_response(call.request)
    # a client that goes away is no fault; the job's process ends with the block
    with contextlib.suppress(ConnectionResetError):
        await response.prepare(call.request)
        async with contextlib.aclosing(jobs.run(job, path, *arguments)) as lines:
            async for line in lines:
                await response.write(line)
        await response.write_eof()
    return response


async def stream_bytes(call: Call, job: str, *arguments: str) -> web.StreamResponse:
    """The bytes that a job prints about this node's database."""
    node = call.services.config.node
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    async with jobs.started(job, node.data_dir, node.cluster_id, *arguments) as process:
        # a client that goes away is no fault; one that gets less than the whole sees that it is not
        with contextlib.suppress(ConnectionResetError):
            await response.prepare(call.request)
            while data := await jobs.output(process):
                await response.write(data)
            await response.write_eof()
    return response
