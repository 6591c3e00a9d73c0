"""The cases of the published ARC test suite, by its names, judged by us; and chains of it that we go on with.

Where we differ from it on purpose (it was written against draft-ietf-dmarc-arc-protocol-18):

- ams_fields_c_na: it takes an ARC-Message-Signature without c= for relaxed/relaxed, as the drafts did. RFC 8617 4.1.2
  gives the field DKIM's meaning, which is simple/simple (RFC 6376 3.5).
- ams_fields_h_empty: it lets h= be empty. RFC 6376 3.5, 6.1.1: From must be signed.
- cv_fail_*_fail: it wants no result for a chain whose last seal says cv=fail; RFC 8617 5.2 says "fail".
- ams_fields_l: an ARC-Message-Signature that leaves out a part of the body counts here where there is no such part.
- a_sha1: it once let rsa-sha1 pass; RFC 8301 3.1.
- as_fields_b_512: it lets a key of 512 bits pass; RFC 8301 3.2.
- as_format_tags_val_case: of d=, whose case the DNS does not see, the seal's signature does; "fail" like there.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import dkim
import pytest

from nodes.verdicts import arc
from nodes.verdicts.arc import SealingKey
from nodes.verdicts.lookups import txt_of_each
from nodes.verdicts.signed import Message
from tests.nodes.verdicts import chains
from tests.nodes.verdicts.chains import BODY, KEY_NAME, KEY_RECORD, LETTER, MIME_VERSION, Change, Tags
from tests.nodes.verdicts.letters import key_record, private_key
from tests.nodes.verdicts.zone import Zone


class Case(NamedTuple):
    """One set over the suite's first letter. `message`, `seal`, `aar`, `body`: changed before it is signed; `after`:
    the whole message, when it is."""

    name: str
    result: str
    message: tuple[Change, ...] = ()
    seal: tuple[Change, ...] = ()
    after: tuple[Change, ...] = ()
    aar: bytes | None = None
    body: bytes = BODY
    length: int = 1
    cv: bytes = b""
    record: str | None = KEY_RECORD


F = b"from:to:date:subject:mime-version:arc-authentication-results"
FORMAT = [
    ("format_sc_wsp", "pass", (b"; s=dummy; ", b"  ;  s=dummy  ;  ")),
    ("format_eq_wsp", "pass", (b"; s=dummy; ", b"; s = dummy; ")),
    ("format_tags_trail_sc", "pass", (b"t=12345", b"t=12345;")),
    ("format_tags_unknown", "pass", (b"t=12345", b"t=12345; w=catparty")),
    ("format_inv_tag_key", "fail", (b"t=12345", b"t=12345; _=hello")),
    ("format_tags_dup", "fail", (b"s=dummy;", b"s=dummy; s=dummy;")),
    ("format_tags_key_case", "fail", (b"s=dummy;", b"S=dummy;")),
    ("format_tags_wsp", "fail", (b"t=12345", b"t=12 345")),
    ("format_tags_sc", "fail", (b"s=dummy;", b"s=dummy;;")),
    ("fields_a_na", "fail", (b"a=rsa-sha256; ", b"")),
    ("fields_a_empty", "fail", (b"a=rsa-sha256", b"a=")),
    ("fields_a_unknown", "fail", (b"a=rsa-sha256", b"a=poetry")),
    ("fields_a_sha1", "fail", (b"a=rsa-sha256", b"a=rsa-sha1")),
    ("fields_b_na", "fail", (b"b=; ", b"")),
    ("fields_b_empty", "fail", (b"b=; ", b"b= ; ")),
    ("fields_b_base64", "fail", (b"b=; ", b"b=not?base64!; ")),
    ("fields_d_na", "fail", (b"d=example.org; ", b"")),
    ("fields_d_empty", "fail", (b"d=example.org", b"d=")),
    ("fields_d_invalid", "fail", (b"d=example.org", b"d=not@a(domain")),
    ("fields_s_na", "fail", (b"s=dummy; ", b"")),
    ("fields_s_empty", "fail", (b"s=dummy", b"s=")),
    ("fields_t_na", "pass", (b"; t=12345", b"")),
    ("fields_t_empty", "fail", (b"t=12345", b"t=")),
    ("fields_t_invalid", "fail", (b"t=12345", b"t=yesterday")),
    ("fields_i_missing", "fail", (b"i=1; ", b"")),
    ("fields_i_malformed1", "fail", (b"i=1", b"i=0")),
    ("fields_i_malformed2", "fail", (b"i=1", b"i=a")),
]
OF_BOTH = [Case(f"as_{name}", result, seal=(change,)) for name, result, change in FORMAT]
OF_BOTH += [Case(f"ams_{name}", result, message=(change,)) for name, result, change in FORMAT]

OF_THE_SEAL = [
    Case("as_format_tags_val_case", "fail", after=((b"d=example.org; i=1", b"d=Example.org; i=1"),)),
    Case("as_fields_cv_na", "fail", seal=((b"cv=none; ", b""),)),
    Case("as_fields_cv_empty", "fail", cv=b" "),
    Case("as_fields_cv_invalid", "fail", cv=b"butterfly"),
    Case("cv_fail_i1_as_pass", "fail", cv=b"pass"),
    Case("cv_fail_i1_as_fail", "fail", cv=b"fail"),
    Case("cv_fail_i2_as2_none", "fail", cv=b"none", length=2),
    Case("cv_fail_i2_as2_fail", "fail", cv=b"fail", length=2),
    Case("as_fields_b_ignores_wsp", "pass", after=((b"b=", b"b= \r\n    "),)),
    Case("as_fields_b_head_case", "pass", after=((b"ARC-Authentication-Results:", b"arc-AUTHENTICATION-results:"),)),
    Case("as_fields_b_head_unfold", "pass", after=((b";\r\n    dmarc", b"; dmarc"),)),
    Case("as_fields_b_eol_wsp", "pass", after=((b"dmarc=pass\r\n", b"dmarc=pass  \t\r\n"),)),
    Case("as_fields_b_inl_wsp", "pass", after=((b"; lists", b"; \t  lists"),)),
    Case("as_fields_b_col_wsp", "pass", after=((b"Results: i", b"Results :   i"),)),
    Case("as_fields_b_mod_sig", "fail", after=((b"; cv", b"AAAA; cv"),)),
    Case("as_fields_b_aar1", "fail", after=((b"dmarc=pass", b"dmarc=fail"),)),
    Case("as_fields_b_ams1", "fail", after=((b"c=relaxed/relaxed", b"c=relaxed/relaxed; q=dns/txt"),)),
    Case("as_fields_h", "fail", seal=((b"t=12345", b"t=12345; h=from"),)),
]
OF_THE_MESSAGE = [
    Case("ams_format_tags_val_case", "fail", after=((b"d=example.org; h", b"d=Example.org; h"),)),
    Case("ams_fields_b_mod_headers", "fail", after=((b"Subject: Example 1", b"Subject: Example 2"),)),
    Case("ams_fields_b_head_case", "pass", after=((b"Subject:", b"sUBJECT:"),)),
    Case("ams_fields_b_head_unfold", "pass", after=((b"Subject: Example", b"Subject: Example\r\n  "),)),
    Case("ams_fields_b_col_wsp", "pass", after=((b"Subject: ", b"Subject  :   "),)),
    Case("ams_fields_bh_na", "fail", message=((b"bh=; ", b""),)),
    Case("ams_fields_bh_empty", "fail", message=((b"bh=; ", b"bh= ; "),)),
    Case("ams_fields_bh_base64", "fail", message=((b"bh=; ", b"bh=not?base64!; "),)),
    Case("ams_fields_bh_mod_bod", "fail", after=((b"gang", b"gangs"),)),
    Case("ams_fields_bh_rel_eol_wsp", "pass", after=((b"gang,\r\n", b"gang, \t\r\n"),)),
    Case("ams_fields_bh_rel_inl_wsp", "pass", after=((b"is a test", b"is  \t a test"),)),
    Case("ams_fields_bh_rel_end_lines", "pass", after=((b"--J.\r\n", b"--J.\r\n\r\n\r\n"),)),
    Case("ams_fields_bh_rel_trail_crlf", "pass", after=((b"--J.\r\n", b"--J."),)),
    Case("ams_fields_c_na", "fail", message=((b"c=relaxed/relaxed; ", b""),)),
    Case("ams_fields_c_empty", "fail", message=((b"c=relaxed/relaxed", b"c="),)),
    Case("ams_fields_c_invalid", "fail", message=((b"c=relaxed/relaxed", b"c=invalid"),)),
    *(
        Case(f"ams_fields_c_{name}", "pass", message=((b"c=relaxed/relaxed", b"c=" + form),))
        for name, form in (
            ("ss", b"simple/simple"),
            ("sr", b"simple/relaxed"),
            ("rs", b"relaxed/simple"),
            ("r", b"relaxed"),
            ("s", b"simple"),
        )
    ),
    Case(
        "ams_fields_bh_sim_inl_wsp",
        "fail",
        message=((b"relaxed/relaxed", b"relaxed/simple"),),
        after=((b"is a test", b"is  a test"),),
    ),
    Case(
        "ams_fields_bh_sim_end_lines",
        "pass",
        message=((b"relaxed/relaxed", b"relaxed/simple"),),
        after=((b"--J.\r\n", b"--J.\r\n\r\n"),),
    ),
    Case(
        "ams_fields_c_sr and a blank more",
        "fail",
        message=((b"relaxed/relaxed", b"simple/relaxed"),),
        after=((b"Subject: ", b"Subject:  "),),
    ),
    Case("ams_fields_h_empty", "fail", message=((F, b""),)),
    Case("ams_fields_h_na", "fail", message=((b"h=" + F + b"; ", b""),)),
    Case("ams_fields_h_cws1", "pass", message=((b":to:", b" : to :  "),)),
    Case("ams_fields_h_case", "pass", message=((b"from:to", b"FROM:To"),)),
    Case("ams_fields_h_order", "fail", after=((b"from:to", b"to:from"),)),
    Case("ams_fields_h_non_existant", "pass", message=((b"from:to", b"from:to:cc:cc"),)),
    Case(
        "ams_fields_h_empty_added",
        "fail",
        message=((b"from:to", b"from:to:cc"),),
        after=((b"Subject:", b"Cc: eve@d1.example\r\nSubject:"),),
    ),
    Case("ams_fields_h_includes_as", "fail", message=((b"from:to", b"from:to:arc-seal"),)),
    Case(
        "ams_fields_l and a line more",
        "fail",
        message=((b"t=12345", b"t=12345; l=42"),),
        after=((b"--J.\r\n", b"--J.\r\nBuy this.\r\n"),),
    ),
    Case("ams_fields_l", "pass", message=((b"t=12345", b"t=12345; l=42"),)),
    Case("ams_fields_h without From", "fail", message=((b"from:to", b"to"),)),
]
OF_THE_REST = [
    Case("aar_missing", "fail", after=((b"ARC-Authentication-Results", b"X-Authentication-Results"),)),
    Case("cv_fail_i1_ams_na", "fail", after=((b"ARC-Message-Signature", b"X-Message-Signature"),)),
    Case("cv_fail_i1_as_na", "fail", after=((b"ARC-Seal", b"X-Seal"),)),
    Case("aar_i_missing", "fail", aar=b" " + chains.RESULTS),
    Case("aar_i_wrong", "fail", aar=b" i=2; " + chains.RESULTS),
    Case("aar_i_not_prefixed", "fail", aar=b" lists.example.org; i=1; dmarc=pass"),
    Case("aar_i_no_semi", "fail", aar=b" i=1 " + chains.RESULTS),
    Case("public_key_na", "fail", record=None),
    Case("public_key_invalid", "fail", record="v=DKIM1; k=rsa; p=abcdefg"),
    Case("as_fields_b_512", "fail", record="k=rsa; p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBANmBe10IgY+u7h3enWTukkqtUD5PR52T"
         "b/mPfjC0QJTocVBq6Za/PlzfV+Py92VaCak19F4WrbVTK5Gg5tW220MCAwEAAQ=="),
    Case("cv_fail_i2_ams_invalid", "fail", length=2, after=((b"from:to", b"to:from"),)),
    Case("cv_fail_i2_as2_invalid", "fail", length=2, after=((b"; cv=pass", b"AAAA; cv=pass"),)),
    Case("cv_fail_i2_as1_invalid", "fail", length=2, after=((b"; cv=none", b"AAAA; cv=none"),)),
]  # fmt: skip


def judged(data: bytes, record: str | None = KEY_RECORD) -> arc.Chain:
    letter = Message(data)
    zone = Zone({} if record is None else {KEY_NAME: [("TXT", record)]})
    return arc.judge(letter, asyncio.run(txt_of_each(zone, arc.key_names(letter))))


def made(case: Case) -> bytes:
    cv = case.cv or (b"none" if case.length == 1 else b"pass")
    plain = chains.tags_of(case.length, cv)
    tags = Tags(chains.changed(plain.message, case.message), chains.changed(plain.seal, case.seal))
    head = [MIME_VERSION, *chains.chain(case.length - 1, case.body)]
    head = chains.sealed(head, case.body, case.length, tags, case.aar)
    head.remove(MIME_VERSION)
    return chains.changed(chains.written(head, case.body), case.after)


@pytest.mark.parametrize("case", [*OF_BOTH, *OF_THE_SEAL, *OF_THE_MESSAGE, *OF_THE_REST], ids=lambda one: one.name)
def test_the_cases_of_the_suite(case: Case) -> None:
    found = judged(made(case), case.record)
    assert found.result == case.result, found.reason


def test_what_is_made_here_is_what_the_suite_has() -> None:
    """b= of cv_pass_i1_1 and cv_pass_i2_1, as published."""
    text = chains.written(chains.chain(2)).decode()
    assert "b=dOdFEyhrk/tw5wl3vMIogoxhaVsKJkrkEhnAcq2XqOLSQhPpGzhGBJzR7k1sWGokon3TmQ" in text
    assert "b=QsRzR/UqwRfVLBc1TnoQomlVw5qi6jp08q8lHpBSl4RehWyHQtY3uOIAGdghDk/mO+/Xpm" in text
    assert "b=IAqZJ5HwfNxxsrn9R4ayQgiu9RibPKEUVevbt7XFTkSh1baJ533D2Z6IZ2NaBreUhDBb2e" in text
    assert "b=2cDGNznUmp4YSSThCe9nrQIH2Gpd5qPFw3OU8sWFzZgEQ5UZtaVQifVUXUrsSyEzjro3Ul" in text


@pytest.mark.parametrize("length", range(1, 6))
def test_a_chain_of_any_length_holds(length: int) -> None:
    found = judged(chains.written(chains.chain(length)))
    assert (found.result, [one.instance for one in found.seals]) == ("pass", list(range(1, length + 1)))


@pytest.mark.parametrize("data", [b"", b"\r\n" + BODY, chains.written(LETTER, b"")[:-2], chains.written(LETTER)])
def test_what_nobody_sealed_has_no_chain(data: bytes) -> None:
    assert judged(data) == arc.NO_CHAIN


def test_an_earlier_message_signature_need_not_hold() -> None:
    """cv_pass_i2_1_ams1_invalid: who sealed last had changed the author."""
    head = [(name, value.replace(b"John", b"Gene")) for name, value in chains.chain(1)]
    head = chains.sealed([MIME_VERSION, *head], BODY, 2, chains.tags_of(2, b"pass"))
    head.remove(MIME_VERSION)
    assert judged(chains.written(head)).result == "pass"


@pytest.mark.parametrize("again", [b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"])
@pytest.mark.parametrize("instance", [b"i=1", b"i=2"])
def test_a_field_that_is_there_twice_breaks_the_chain(again: bytes, instance: bytes) -> None:
    """as_fields_i_dup, ams_fields_i_dup, arc_set_duplicate."""
    head = chains.chain(2)
    twice = next(one for one in head if one[0] == again and instance in one[1])
    assert judged(chains.written([twice, *head])).result == "fail"


def test_a_chain_with_a_gap_fails() -> None:
    head = [one for one in chains.chain(3) if not (one[0].startswith(b"ARC-") and b"i=2" in one[1])]
    assert judged(chains.written(head)).result == "fail"


@pytest.mark.parametrize("length", [0, 1, 4])
def test_what_we_seal_behind_a_chain_of_the_suite_holds_here_and_for_dkimpy(length: int) -> None:
    data = chains.written(chains.chain(length))
    own = SealingKey("our.test", "s", private_key())
    lines = arc.seal(data, judged(data), b"mx.our.test; dmarc=pass header.from=d1.example.org", own, 1_790_000_000)
    records = {KEY_NAME: KEY_RECORD, "s._domainkey.our.test": key_record(private_key())}
    letter = Message(b"".join(lines) + data)
    zone = Zone({name: [("TXT", record)] for name, record in records.items()})
    found = arc.judge(letter, asyncio.run(txt_of_each(zone, arc.key_names(letter))))
    assert (found.result, found.seals[-1].domain, len(found.seals)) == ("pass", "our.test", length + 1)
    by_dkimpy = dkim.arc_verify(
        b"".join(lines) + data, dnsfunc=lambda name, timeout: records[name.decode().removesuffix(".")].encode()
    )
    assert by_dkimpy[0] == b"pass", by_dkimpy[2]
