"""Authentication-Results: written so that nobody can write into it, read for what sealers say, ours taken out."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.verdicts.authentication_results import Finding, read, without_claims, write


def test_what_is_written_is_read_back() -> None:
    findings = [
        Finding("spf", "pass", (("smtp.mailfrom", "alice@sender.test"),)),
        Finding(
            "dkim", "fail", (("header.d", "sender.test"), ("header.b", "a/b+c=")), "test mode", "the body was changed"
        ),
        Finding("dmarc", "pass", (("header.from", "sender.test"),), "p=reject dis=none"),
    ]
    line = write("mx.example.test", findings)
    assert line.startswith(b"Authentication-Results: mx.example.test;\r\n\tspf=pass")
    authserv_id, found = read(line.partition(b":")[2])
    assert authserv_id == "mx.example.test"
    assert [(one.method, one.result) for one in found] == [("spf", "pass"), ("dkim", "fail"), ("dmarc", "pass")]
    assert dict(found[2].properties) == {"header.from": "sender.test"}


@pytest.mark.parametrize(
    "sender", ["a; dmarc=pass header.from=x", "a\r\nX: y@b", '"; spf=pass', "a\\", "(", "ä@ö.test", "a b"]
)
def test_a_sender_can_not_write_findings_into_it(sender: str) -> None:
    line = write(
        "mx.example.test", [Finding("spf", "fail", (("smtp.mailfrom", sender),), comment=sender, reason=sender)]
    )
    assert line.count(b"\r\n") == line.count(b"\r\n\t") + 1
    assert [(one.method, one.result) for one in read(line.partition(b":")[2])[1]] == [("spf", "fail")]


def test_no_line_grows_longer_than_mail_may_have() -> None:
    line = write("mx.example.test", [Finding("dkim", "fail", (("header.d", "x" * 5000),), reason="y" * 5000)] * 8)
    assert max(map(len, line.split(b"\r\n"))) <= 998


@pytest.mark.parametrize(
    ("value", "authserv_id", "results"),
    [
        (b" example.com; none", "example.com", []),
        (b" example.com 1; spf=pass smtp.mailfrom=example.net", "example.com", [("spf", "pass")]),
        (
            b' (a (nested) comment) Example.COM ; spf/1 = pass reason = "good; dkim=pass"',
            "example.com",
            [("spf", "pass")],
        ),
        (b"example.com; (; dmarc=pass) dkim=fail", "example.com", [("dkim", "fail")]),
        (b"", "", []),
        (b"(((", "", []),
    ],
)
def test_what_others_write_is_read_as_rfc_8601_says(value: bytes, authserv_id: str, results: list[object]) -> None:
    found_id, found = read(value)
    assert (found_id, [(one.method, one.result) for one in found]) == (authserv_id, results)


@given(st.binary(max_size=200))
def test_reading_never_fails(value: bytes) -> None:
    read(value)


def test_reading_takes_linear_time() -> None:
    started_s = time.process_time()
    for value in (b"(" * 1_000_000, b'"' * 1_000_000, b"a;" * 500_000, b"\\" * 1_000_000):
        read(value)
    assert time.process_time() - started_s < 5


def test_fields_that_claim_to_be_ours_are_taken_out_and_no_others() -> None:
    data = (
        b"Authentication-Results: MX.example.test (it is us);\r\n\tspf=pass\r\n"
        b"Authentication-Results: other.test; spf=pass\r\n"
        b"authentication-results : mx.example.test; dkim=pass\r\n"
        b"Subject: Authentication-Results: mx.example.test\r\n\r\n"
        b"Authentication-Results: mx.example.test; in the body\r\n"
    )
    kept, claims = without_claims(data, "mx.example.test")
    assert len(claims) == 2
    assert kept == data.replace(claims[0], b"", 1).replace(claims[1], b"", 1)
    assert kept.startswith(b"Authentication-Results: other.test")
    assert kept.endswith(b"in the body\r\n")


def test_a_message_without_such_a_claim_stays_the_same_object() -> None:
    data = b"Subject: none\r\n\r\nbody"
    assert without_claims(data, "mx.example.test")[0] is data
