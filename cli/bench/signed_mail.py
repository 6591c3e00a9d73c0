"""What `mailraft bench smtp --checks` sends, and what it is judged by: a signed message, and a resolver on loopback.

A sender's domain as most are: an RSA key of 2,048 bits for DKIM, SPF through an include, a DMARC policy that rejects:
a message that fails would not be taken, and the benchmark end with an error. unbound answers for it, with the least TTL
that is common; all mail is of one domain, so nearly every answer is one that a node still has.
"""

import contextlib
import email.utils
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import dkim
import dns.exception
import dns.message
import dns.query

from chaos.cluster import free_base_port
from cli.bench.load import Filler
from nodes import dkim_keys

DOMAIN = "sender.test"
HOST = f"mail.{DOMAIN}"
SELECTOR = "bench"
RSA_BITS = 2048
START_TIMEOUT_S = 10.0
ANSWERS_VALID_S = 60
LINE_BYTES = 76
SIGNATURE_BYTES = 800  # about so much of a message is its DKIM-Signature
UNBOUND = """\
server:
  interface: 127.0.0.1@{port}
  port: {port}
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "{folder}"
  pidfile: ""
  use-syslog: no
  module-config: "iterator"
  local-zone: "test." static
{records}
remote-control:
  control-enable: no
"""


class ResolverError(Exception):
    """The name server can not be run; the text says why."""


class SignedMail(NamedTuple):
    """A file with the message as smtp-source wants it (LF at line ends), and the environment of nodes that judge it."""

    message: Path
    environment: Mapping[str, str]


@contextlib.contextmanager
def signed_mail(size_bytes: int) -> Iterator[SignedMail]:
    """Runs the resolver meanwhile; the message has about so many bytes. Raises ResolverError."""
    if shutil.which("unbound") is None:
        raise ResolverError("unbound not found: apt-get install unbound (it need not run), or leave out --checks")
    folder = Path(tempfile.mkdtemp(prefix="bench-resolver."))
    try:
        key = dkim_keys.make(DOMAIN, SELECTOR, "rsa-sha256", RSA_BITS, lambda private, _: private)
        message = folder / "message"
        message.write_bytes(_signed(_message(size_bytes), key.sealed).replace(b"\r\n", b"\n"))
        with _resolver(folder, _records(dkim_keys.record_value(key.algorithm, key.public))) as address:
            yield SignedMail(message, {"MAILRAFT_DNS_NAMESERVERS": address, "MAILRAFT_VERDICTS_JUDGE": "always"})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _message(size_bytes: int) -> bytes:
    head = [
        f"From: Bench <bench@{DOMAIN}>",
        "To: alice@bench.test",
        "Subject: A message that is judged",
        f"Date: {email.utils.formatdate()}",
        f"Message-ID: <{time.time_ns():x}@{HOST}>",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "\r\n",
    ]
    start = "\r\n".join(head).encode()
    text = Filler().take(max(LINE_BYTES, size_bytes - len(start) - SIGNATURE_BYTES))
    return start + b"".join(text[at : at + LINE_BYTES - 2] + b"\r\n" for at in range(0, len(text), LINE_BYTES))


def _signed(message: bytes, private: bytes) -> bytes:
    line: bytes = dkim.sign(
        message, SELECTOR.encode(), DOMAIN.encode(), private, canonicalize=(b"relaxed", b"relaxed"), linesep=b"\r\n"
    )
    return line + message


def _records(key_record: str) -> str:
    texts = {
        DOMAIN: f"v=spf1 include:_spf.{DOMAIN} -all",
        f"_spf.{DOMAIN}": "v=spf1 ip4:192.0.2.0/24 ip4:127.0.0.0/8 -all",
        HOST: "v=spf1 a -all",
        f"_dmarc.{DOMAIN}": "v=DMARC1; p=reject; adkim=s; aspf=s",
        f"{SELECTOR}._domainkey.{DOMAIN}": key_record,
    }
    lines = [f"{name}. {ANSWERS_VALID_S} IN TXT {_quoted(text)}" for name, text in texts.items()]
    lines.append(f"{HOST}. {ANSWERS_VALID_S} IN A 127.0.0.1")
    return "\n".join(f"  local-data: '{line}'" for line in lines)


def _quoted(text: str) -> str:
    size = dkim_keys.TXT_BYTES
    return " ".join(f'"{text[at : at + size]}"' for at in range(0, len(text), size))


@contextlib.contextmanager
def _resolver(folder: Path, records: str) -> Iterator[str]:
    port = free_base_port(1)
    configuration, log = folder / "unbound.conf", folder / "unbound.log"
    configuration.write_text(UNBOUND.format(port=port, folder=folder, records=records))
    with log.open("wb") as said:
        process = subprocess.Popen(
            ["unbound", "-d", "-c", str(configuration)], stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
    try:
        _wait_until_it_answers(port, process, log)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait_until_it_answers(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            dns.query.udp(dns.message.make_query(HOST, "A"), "127.0.0.1", timeout=1, port=port)
        except (OSError, dns.exception.DNSException):
            time.sleep(0.05)
        else:
            return
    raise ResolverError(f"unbound does not answer: {log.read_text(errors='replace').strip()[-200:]}")
