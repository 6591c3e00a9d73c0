"""A small corpus of broken and odd messages, for the comparison with Dovecot; the larger one is read where it lies."""

import re
from pathlib import Path

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "mime-torture"

_MIXED = b'Content-Type: multipart/mixed; boundary="b"\n\n'


def _deep(levels: int) -> bytes:
    """Multiparts in one another, of which only the innermost has text; none is closed."""
    heads = b"".join(b"Content-Type: multipart/mixed; boundary=x%dy\n\n--x%dy\n" % (n, n) for n in range(levels))
    return b"Subject: deep\n" + heads + b"\ninnermost\n"


MESSAGES: dict[str, bytes] = {
    "no header": b"\nonly a body\n",
    "no body": b"Subject: nothing below\n\n",
    "no empty line": b"Subject: the header never ends\nTo: a@example.org",
    "a line that is no field": b"Subject: one\nthis is no field\nTo: a@example.org\n\nx\n",
    "text without charset": b"Content-Type: text/html\n\n<p>x</p>\n",
    "type that is none": b"Content-Type: nonsense\n\nx\n",
    "two content types": b"Content-Type: text/html\nContent-Type: text/plain; charset=utf-8\n\nx\n",
    "upper-case names": b"CONTENT-TYPE: TEXT/HTML; CHARSET=UTF-8\nSUBJECT: loud\n\nx\n",
    "comments in a type": b"Content-Type: (one) text/plain (two); charset=(three)utf-8\n\nx\n",
    "quoted pair in a parameter": b'Content-Type: text/plain; name="a\\"b\\\\c"\n\nx\n',
    "quote never closed": b'Content-Type: text/plain; charset="utf-8\nSubject: x\n\nx\n',
    "rfc 2231 value": b"Content-Type: text/plain; name*=utf-8'de'%C3%A4.txt; charset=utf-8\n\nx\n",
    "rfc 2231 pieces": b'Content-Type: text/plain; charset=utf-8; name*0="long "; name*1="name.txt"\n\nx\n',
    "rfc 2231 encoded pieces": b"Content-Type: text/plain; charset=utf-8; name*0*=utf-8''%C3%A4; name*1=.txt\n\nx\n",
    "rfc 2047 parameter": b'Content-Type: text/plain; charset=utf-8; name="=?utf-8?q?=C3=A4?="\n\nx\n',
    "8-bit header": b"Subject: caf\xc3\xa9 \xe9\nFrom: Andr\xe9 <a@example.org>\n\nx\n",
    "NUL": b"Subject: a\x00b\n\nx\x00y\n",
    "encoded words": b"Subject: =?utf-8?q?=C3=A4?=\n =?utf-8?b?w6Q=?=\nFrom: =?utf-8?q?=C3=A4?= <a@example.org>\n\nx\n",
    "unclosed": _MIXED + b"--b\n\none\n--b\n\ntwo\n",
    "closed": b"Subject: s\n" + _MIXED + b"before\n--b\n\none\n--b\nContent-Type: text/html\n\ntwo\n--b--\nafter\n",
    "boundary never seen": _MIXED + b"no boundary here\n",
    "boundary missing": b"Content-Type: multipart/mixed\n\n--b\n\none\n--b--\n",
    "boundary with blanks behind": _MIXED + b"--b  \n\none\n--b-- \n",
    "boundary that goes on": _MIXED + b"--b\n\none\n--bc\n\ntwo\n--b--\n",
    "empty part": _MIXED + b"--b\n--b\n\n--b\n\n\n--b--\n",
    "part of a header alone": _MIXED + b"--b\nContent-Type: text/html\n--b\n\nx\n--b--\n",
    "only the end": _MIXED + b"--b--\n",
    "nested": _MIXED
    + b"--b\nContent-Type: multipart/alternative; boundary=c\n\n--c\n\none\n--c\n\ntwo\n--c--\n--b--\n",
    "inner never closed": _MIXED + b"--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\none\n--b\n\ntwo\n--b--\n",
    "same boundary inside": _MIXED + b"--b\n" + _MIXED + b"--b\n\none\n--b--\n--b--\n",
    "message inside": _MIXED + b"--b\nContent-Type: message/rfc822\n\nSubject: in\nTo: a@example.org\n\ny\n--b--\n",
    "message inside is all": b"Content-Type: message/rfc822\n\nFrom: a@example.org\nSubject: in\n\ny\n",
    "multipart in a message inside": b"Content-Type: message/rfc822\n\n" + _MIXED + b"--b\n\none\n--b\n\ntwo\n--b--\n",
    "base64 message inside": b"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nU3ViamVjdA==\n",
    "digest": b"Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: one\n\nx\n--b\n\nTo: two\n\ny\n--b--\n",
    "all fields of a part": (
        b"Content-Type: text/plain; charset=utf-8\nContent-ID: <1@example.org>\nContent-Description: what it is\n"
        b"Content-Transfer-Encoding: 8BIT\nContent-MD5: Q2hlY2s=\nContent-Language: de, en\n"
        b"Content-Location: http://example.org/\nContent-Disposition: attachment; filename=a.txt\n\n\xc3\xa4\n"
    ),
    "group": b"To: friends: a@example.org, B <b@example.org>;, c@example.org\nCc: undisclosed-recipients:;\n\nx\n",
    "group never closed": b"To: friends: a@example.org\n\nx\n",
    "addresses, odd": (
        b'From: "Quoted \\"Name\\"" <"a b"@example.org>\nSender: c@example.org (Comment (nested))\n'
        b"Reply-To: <@one.example,@two.example:d@example.org>\nTo: e@[192.0.2.1], lonely\nBcc: <>\n\nx\n"
    ),
    "address empty": b"From:\nTo: \nCc: ,\n\nx\n",
    "addresses twice": b"From: a@example.org\nTo: b@example.org\nTo: c@example.org\nSubject: 1\nSubject: 2\n\nx\n",
    "dates, odd": b"Date: Thu Jan  1 00:00:00 1970 (UTC)\nSubject:   blanks   within  \n\nx\n",
    "date twice": b"Date: Mon, 1 Jan 2024 00:00:00 +0000\nDate: Tue, 2 Jan 2024 00:00:00 +0000\n\nx\n",
    "folded everywhere": b"Subject: a\n\tb\n  c\nTo: a@example.org,\n b@example.org\nMessage-ID:\n <1@a.org>\n\nx\n",
    "folded line of blanks": b"Subject: a\n \n b\nTo: a@example.org\n\nx\n",
    "blanks before the colon": b"Subject : a\nTo\t: a@example.org\n\nx\n",
    "huge header": b"Subject: " + b"word " * 4000 + b"\nX-Huge: " + b"y" * 70_000 + b"\n\nx\n",
    "many recipients": b"To: " + b",\n ".join(b"u%d@example.org" % n for n in range(500)) + b"\n\nx\n",
    "in reply to several": b"In-Reply-To: <1@example.org> <2@example.org>\nMessage-ID: no brackets\n\nx\n",
    "uuencode": b"Content-Transfer-Encoding: x-uuencode\n\nbegin 644 a\n#86)C\n`\nend\n",
    "bare CR": b"Subject: a\n\none\rtwo\n",
    "deep": _deep(10),
}


def crlf(message: bytes) -> bytes:
    """With line ends as they are on the wire."""
    return re.sub(rb"\r?\n", b"\r\n", message)


def shared() -> dict[str, bytes]:
    """The larger corpus by file name, empty where it is not there; a file of no bytes is no message."""
    paths = sorted(path for path in SHARED.rglob("*") if path.is_file())
    return {path.name: data for path in paths if (data := path.read_bytes())}
