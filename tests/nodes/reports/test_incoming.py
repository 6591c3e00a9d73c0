"""Reports of others: the formats of their RFCs are understood, and nothing that pretends to be one does harm."""

from __future__ import annotations

import contextlib
import gzip
import json

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.reports import attachments
from nodes.reports.attachments import Unreadable
from nodes.reports.incoming import MOST_CONTENT_BYTES, MOST_ROWS, understand
from tests.nodes.reports import samples
from tests.nodes.reports.samples import AGGREGATE, mailed, zipped


@pytest.mark.parametrize(
    "message",
    [
        samples.aggregate(),
        mailed(zipped(AGGREGATE), "application/zip"),
        mailed(AGGREGATE, "text/xml"),
        mailed(b"\xef\xbb\xbf" + AGGREGATE, "application/octet-stream"),
    ],
)
def test_an_aggregate_report_is_understood_however_it_is_packed(message: bytes) -> None:
    found = understand(message)
    assert (found.kind, found.organisation, found.report_id, found.domain) == (
        "dmarc", "receiver.test", "1234567890", "example.test",
    )  # fmt: skip
    assert (found.begin_s, found.end_s) == (1795132800, 1795219199)
    assert (found.content["messages"], found.content["passed"], found.content["policy"]["p"]) == (42, 12, "reject")
    worst = found.content["rows"][0]
    assert (worst["source_ip"], worst["count"], worst["disposition"], worst["spf_domain"]) == (
        "203.0.113.9", 30, "reject", "evil.test",
    )  # fmt: skip


def test_a_tls_report_is_understood() -> None:
    found = understand(samples.tls())
    assert (found.kind, found.organisation, found.domain) == ("tls", "Company-X", "example.test")
    assert (found.content["succeeded"], found.content["failed"]) == (5326, 303)
    assert [row["result"] for row in found.content["rows"]] == ["certificate-expired", "starttls-not-supported"]
    assert found.end_s - found.begin_s == 86_399


def test_an_abuse_report_is_understood_with_the_message_that_it_is_about() -> None:
    found = understand(samples.ARF)
    assert (found.kind, found.organisation, found.domain) == ("arf", "mail.isp.test", "example.test")
    assert found.content["feedback"]["feedback-type"] == "abuse"
    assert found.content["feedback"]["original-rcpt-to"] == "<user@isp.test>"
    assert found.content["message"]["message-id"] == "<8787KJKJ3K4J3K4J3K4J3.mail@example.test>"


def test_what_is_kept_of_a_report_is_bounded() -> None:
    record = AGGREGATE[AGGREGATE.index(b"<record>") : AGGREGATE.index(b"</record>") + 9]
    found = understand(mailed(gzip.compress(AGGREGATE.replace(record, record.replace(b"192", b"1" * 400) * 3000, 1))))
    assert found.content["records"] == 3001
    assert found.content["messages"] == 3000 * 12 + 30
    assert len(found.content["rows"]) == MOST_ROWS
    packed = found.packed()
    assert len(packed) <= MOST_CONTENT_BYTES
    assert msgpack.unpackb(packed)["rows"]


BOMB = gzip.compress(b" " * (attachments.MOST_UNPACKED_BYTES + 1))
LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<feedback><report_metadata>&b;</report_metadata><policy_published/></feedback>"""
OUTSIDE = b"""<?xml version="1.0"?><!DOCTYPE f [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<feedback><report_metadata><org_name>&x;</org_name></report_metadata><policy_published/></feedback>"""


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"Subject: hello\r\n\r\nNo report here.\r\n",
        mailed(BOMB),
        mailed(zipped(b" " * (attachments.MOST_UNPACKED_BYTES + 1)), "application/zip"),
        mailed(zipped(AGGREGATE, AGGREGATE), "application/zip"),
        mailed(zipped(AGGREGATE)[:80], "application/zip"),
        mailed(gzip.compress(AGGREGATE)[:60]),
        mailed(gzip.compress(LAUGHS)),
        mailed(gzip.compress(OUTSIDE)),
        mailed(gzip.compress(AGGREGATE[:-20])),
        mailed(gzip.compress(b"<a>" * 500_000)),
        mailed(gzip.compress(b"<html><body/></html>")),
        mailed(gzip.compress(b"<a>" + b"<b/>" * 1_000_000 + b"</a>")),
        mailed(gzip.compress(b'{"policies": []}')),
        mailed(gzip.compress(b"[" * 200_000)),
        mailed(gzip.compress(b'{"a":' * 200_000)),
        samples.ARF.replace(b"Feedback-Type", b"X-Type"),
        mailed(b"x" * attachments.MOST_MESSAGE_BYTES),
    ],
    ids=range(18),
)
def test_what_is_no_report_or_too_much_of_one_is_refused(message: bytes) -> None:
    with pytest.raises(Unreadable):
        understand(message)


def test_numbers_texts_and_times_that_can_not_be_are_left_out() -> None:
    report = json.loads(json.dumps(samples.TLS))
    report["date-range"] = {"start-datetime": "yesterday", "end-datetime": 7}
    report["policies"][0]["summary"] = {"total-successful-session-count": -5, "total-failure-session-count": "many"}
    report["policies"].append("not a policy")
    report["organization-name"] = "\ud800 half a character"
    found = understand(mailed(gzip.compress(json.dumps(report).encode())))
    assert (found.begin_s, found.end_s, found.content["succeeded"], found.content["failed"]) == (0, 0, 0, 0)
    assert found.organisation.endswith("half a character")
    assert msgpack.unpackb(found.packed())


NAMES = st.sampled_from(["policies", "policy", "summary", "report-id", "failure-details"])


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner),
        max_leaves=8,
    )
)
def test_any_json_is_a_report_or_refused(value: object) -> None:
    with contextlib.suppress(Unreadable):
        understand(mailed(json.dumps({"policies": [value]}).encode(), "application/tlsrpt+json"))
