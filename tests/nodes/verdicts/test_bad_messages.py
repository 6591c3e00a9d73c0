"""Messages that are broken, by accident or on purpose, are judged like others: nothing raises or takes for ever."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.verdicts import VerdictPolicy
from nodes.verdicts.authentication_results import read, write
from nodes.verdicts.judge import Arrival, Judgement, Limits, as_values, findings, judge
from tests.nodes.verdicts.letters import letter, signed, zone_of

CORPUS = Path(__file__).resolve().parents[4] / "shared" / "data" / "mime-torture"
MESSAGES = sorted(CORPUS.rglob("*.eml")) if CORPUS.is_dir() else []
ZONE = zone_of(_="v=spf1 ip4:192.0.2.0/24 -all", _dmarc="v=DMARC1; p=reject")


def judged(data: bytes, sender: str = "a@sender.test", helo: str = "mx.sender.test") -> Judgement:
    """With what is told of it, which must be tellable."""
    arrival = Arrival("192.0.2.1", helo, sender, data)
    found = asyncio.run(judge(ZONE, arrival, VerdictPolicy(), Limits(8, 5.0), 0))
    line = write("mx.example.test", findings(found, arrival))
    assert line.endswith(b"\r\n")
    assert b"\n" not in line.replace(b"\r\n", b"")
    told = [(one.method, one.result) for one in read(line.partition(b":")[2])[1]]
    assert told == [(one.method, one.result) for one in findings(found, arrival)]
    msgpack.packb(as_values(found, arrival))
    return found


@pytest.mark.skipif(not MESSAGES, reason=f"no corpus at {CORPUS}")
def test_every_message_of_the_corpus_is_judged() -> None:
    for path in MESSAGES:
        judged(path.read_bytes())
        judged(path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))


@pytest.mark.parametrize("field", [b"x:\r\n", b"\x01:\r\n"])
def test_an_author_behind_more_fields_than_are_looked_at_is_no_clear_one(field: bytes) -> None:
    forged = b"From: <ceo@sender.test>\r\nSubject: pay\r\n\r\n"
    assert judged(field * 9000 + forged).authors == (("sender.test",), False)
    assert judged(field * 10_000 + forged).authors.is_ambiguous


FIELDS = st.sampled_from(
    [b"From", b"DKIM-Signature", b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results", b"X"]
)
VALUES = st.lists(
    st.sampled_from(
        [
            b"v=1", b"a=rsa-sha256", b"d=sender.test", b"s=s", b"h=from", b"bh=AAAA", b"b=AAAA", b"i=1", b"cv=none",
            b"l=1", b"c=relaxed/relaxed", b";", b" ", b"\r\n\t", b"=", b"\xff", b"<a@sender.test>", b",", b'"', b"(",
            b"\x00", b"@",
        ]
    ),
    max_size=24,
).map(b"".join)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(FIELDS, VALUES), max_size=8), st.binary(max_size=30))
def test_any_header_is_judged(fields: list[tuple[bytes, bytes]], body: bytes) -> None:
    judged(b"".join(name + b": " + value + b"\r\n" for name, value in fields) + b"\r\n" + body)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_any_sender_and_name_are_judged(sender: str, helo: str) -> None:
    judged(letter(), sender, helo)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n",
        b" folded first\r\n\r\n",
        b"no header at all",
        b"From: " + b"<a@sender.test>, " * 20_000 + b"\r\n\r\n",
        b"From: " + b"(" * 100_000 + b"\r\n\r\n",
        b"X: y\r\n" * 10_000 + signed(letter()),
        b"DKIM-Signature: v=1; a=rsa-sha256; d=x.test; s=s; bh=AAAA; b=AAAA; h="
        + b"a:" * 7_000
        + b"from\r\n"
        + letter(),
        (b"DKIM-Signature: " + b" \t" * 8_000 + b"\r\n") * 200 + letter(),
        b"From: a@" + b"a." * 10_000 + b"test\r\n\r\n",
        b"ARC-Seal: i=" + b"1" * 10_000 + b"\r\n" + letter(),
    ],
    ids=range(11),
)
def test_floods_are_judged_in_little_time(data: bytes) -> None:
    started_s = time.process_time()
    judged(data)
    assert time.process_time() - started_s < 5
