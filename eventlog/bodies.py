"""Bodies in pieces: how a large one is cut, and what a reader puts together again."""

CHUNK_BYTES = 256 * 1024  # a body above this is proposed in chunk records first


def split(data: bytes) -> list[bytes]:
    """`data` in pieces of at most CHUNK_BYTES; one piece (possibly empty) when it is small."""
    return [data[i : i + CHUNK_BYTES] for i in range(0, len(data), CHUNK_BYTES)] or [b""]
