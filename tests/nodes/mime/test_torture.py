"""The torture corpus: real and malformed messages, read in place; skipped where the corpus is not there."""

import email
import email.policy
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest

from nodes.mime import header
from nodes.mime.addresses import addresses
from nodes.mime.structure import Part, parse
from nodes.mime.text import decode_header, leaf_parts, part_text

CORPUS = Path(__file__).resolve().parents[4] / "shared" / "data" / "mime-torture"
FILES = sorted(path for path in CORPUS.rglob("*") if path.is_file()) if CORPUS.is_dir() else []

pytestmark = pytest.mark.skipif(not FILES, reason=f"the corpus is not at {CORPUS}")
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CORPUS)))


def parts(part: Part) -> Iterator[Part]:
    yield part
    for child in part.children:
        yield from parts(child)
    if part.message is not None:
        yield from parts(part.message)


@every_file
def test_header_body_and_fields_of_each_part_are_the_original_bytes(path: Path) -> None:
    data = path.read_bytes()
    for part in parts(parse(data)):
        assert 0 <= part.start <= part.body <= part.end <= len(data)
        for field in part.fields:
            assert data[field.start : field.value].rstrip(b": \t").lower().rstrip() == field.name
        for before, after in zip(part.children, part.children[1:]):
            between = data[before.end : after.start]
            assert between.lstrip(b"\r\n").startswith(b"--")


@every_file
def test_the_tree_is_the_one_that_the_standard_library_sees(path: Path) -> None:
    data = path.read_bytes()
    theirs = email.message_from_bytes(data)
    assert shape(parse(data)) == their_shape(theirs)


def shape(part: Part) -> str:
    kind = (part.media.type + b"/" + part.media.subtype).decode("latin-1")
    if part.children:
        whole = len(part.children) == 1 and part.children[0].start == part.body
        return kind if whole else f"{kind}({','.join(map(shape, part.children))})"
    return f"{kind}<{shape(part.message)}>" if part.message else kind


def their_shape(message: Message) -> str:
    kind = message.get_content_type()
    if not message.is_multipart() or kind == "message/delivery-status":
        return kind  # a delivery status has no parts to IMAP
    inner = [their_shape(part) for part in message.get_payload() if isinstance(part, Message)]
    return f"{kind}<{inner[0]}>" if kind == "message/rfc822" else f"{kind}({','.join(inner)})"


@every_file
def test_leaf_parts_hold_what_the_standard_library_holds(path: Path) -> None:
    data = path.read_bytes()
    root = parse(data)
    message = email.message_from_bytes(data)
    if any(part.defects for part in message.walk()):
        pytest.skip("malformed, and the standard library mends it in its own way")
    theirs = [part for part in message.walk() if not part.is_multipart()]
    ours = list(leaf_parts(root))
    if len(ours) != len(theirs):
        pytest.skip("the standard library sees parts in a delivery status")
    for mine, other in zip(ours, theirs):
        payload = other.__dict__["_payload"]  # as it came: get_payload decodes 8-bit text
        assert isinstance(payload, str)
        expected = payload.encode("ascii", "surrogateescape")
        assert data[mine.body : mine.end].replace(b"\r\n", b"\n") == expected.replace(b"\r\n", b"\n")


@every_file
def test_addresses_and_text_are_read_without_complaint(path: Path) -> None:
    data = path.read_bytes()
    root = parse(data)
    for part in parts(root):
        for field in part.fields:
            decode_header(header.value_of(data, field))
            addresses(header.value_of(data, field))
        encoding = header.first(data, part.fields, b"content-transfer-encoding")
        part_text(data, part, encoding)
