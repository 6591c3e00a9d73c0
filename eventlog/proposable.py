"""What may be proposed: bodies that fit their record, and no more bytes than one proposal may have."""

from collections.abc import Sequence

from eventlog.errors import Rejected
from eventlog.record import Record, RecordError

MAX_PROPOSAL_BYTES = 8 * 1024 * 1024


def require_size(data: bytes, bodies: Sequence[bytes]) -> None:
    """Raises Rejected for a packed record that is too large with its bodies."""
    if len(data) + sum(map(len, bodies)) > MAX_PROPOSAL_BYTES:
        raise Rejected("too_large", f"a record with its bodies may have {MAX_PROPOSAL_BYTES} bytes")


def check_bodies(record: Record, bodies: Sequence[bytes]) -> None:
    """Each body comes with its bytes, but for one made of chunks. That the digest is theirs is on the caller."""
    if len(bodies) != len(record.bodies):
        raise RecordError(f"{len(record.bodies)} bodies are named and {len(bodies)} given")
    for body, data in zip(record.bodies, bodies, strict=True):
        if not body.chunks and len(data) != body.size:
            raise RecordError(f"a body of {len(data)} bytes is named with {body.size}")
