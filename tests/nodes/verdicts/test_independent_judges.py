"""opendkim, opendmarc and Rspamd judge the same messages, by the same DNS, and come to the same verdicts.

opendmarc reads our Authentication-Results as a filter behind us would, so it also judges whether that can be read. It
asks the name server of resolv.conf, which it is given in a mount namespace of its own. Not asked of it is whether a
subdomain is strictly aligned: up to 1.4.2, with a list of public suffixes, it says so (its pull request 354).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.verdicts import VerdictPolicy
from nodes.config.node import DnsSection
from nodes.resolver import Resolver
from nodes.verdicts.authentication_results import write
from nodes.verdicts.judge import Arrival, Judgement, Limits, findings, judge
from tests.nodes.verdicts.letters import key_record, letter, private_key, signed
from tests.peers import filter_programs
from tests.peers.dns_server import DnsServer
from tests.peers.filter_programs import Program

OPENDKIM, OPENDMARC = (shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in ("opendkim", "opendmarc"))
SUFFIXES = Path("/usr/share/publicsuffix/public_suffix_list.dat")
AUTHSERV_ID = "mx.example.test"
RESOLVER_HOST = "127.0.0.117"  # port 53, the only one that resolv.conf knows: an address that nothing else has


def _txt(name: str, text: str) -> str:
    return f"{name}. TXT " + " ".join(f'"{text[at : at + 200]}"' for at in range(0, len(text), 200))


ZONE = "\n".join(
    [
        _txt("sender.com", "v=spf1 ip4:192.0.2.0/24 -all"),
        _txt("mail.sender.com", "v=spf1 ip4:192.0.2.0/24 -all"),
        _txt("_dmarc.sender.com", "v=DMARC1; p=reject; sp=quarantine"),
        _txt("none.com", "v=spf1 ?all"),
        _txt("s._domainkey.sender.com", key_record(private_key())),
        _txt("s._domainkey.none.com", key_record(private_key())),
    ]
)

CASES = {
    "signed": (signed(letter("a@sender.com"), "sender.com"), "x@other.com", "203.0.113.1"),
    "signed-ed": (signed(letter("a@mail.sender.com"), "sender.com"), "x@other.com", "203.0.113.1"),
    "by-spf": (letter("a@sender.com"), "b@mail.sender.com", "192.0.2.1"),
    "spf-fails": (letter("a@sender.com"), "b@sender.com", "203.0.113.1"),
    "changed": (signed(letter("a@sender.com"), "sender.com").replace(b"Hello", b"Hullo"), "x@other.com", "203.0.113.1"),
    "foreign-signature": (signed(letter("a@sender.com"), "none.com"), "x@none.com", "192.0.2.1"),
    "subdomain": (letter("a@mail.sender.com"), "x@none.com", "203.0.113.1"),
    "no-policy": (signed(letter("a@none.com"), "none.com"), "x@none.com", "203.0.113.1"),
    "null-sender": (signed(letter("a@sender.com"), "sender.com"), "", "203.0.113.1"),
}


@pytest.fixture(scope="module")
def names() -> Iterator[DnsServer]:
    if os.geteuid() != 0:
        pytest.skip("a name server for opendmarc needs port 53, and so root")
    with DnsServer(ZONE, host=RESOLVER_HOST, port=53) as server:
        yield server


def ours(names: DnsServer, case: str) -> tuple[Judgement, bytes]:
    """What we find, and the message with our field in front."""
    data, sender, client = CASES[case]
    arrival = Arrival(client, "mx.sender.com", sender, data)

    async def work() -> Judgement:
        resolver = Resolver(DnsSection(nameservers=(names.address,)))
        return await judge(resolver, arrival, VerdictPolicy(), Limits(8, 5.0), 0)

    found = asyncio.run(work())
    told = [one for one in findings(found, arrival) if one.method != "dmarc"]
    return found, write(AUTHSERV_ID, told) + data


@pytest.mark.skipif(OPENDKIM is None, reason="opendkim is not installed")
@pytest.mark.parametrize("case", [name for name, (data, _, _) in CASES.items() if b"DKIM-Signature" in data])
def test_opendkim_verifies_what_we_verify(names: DnsServer, tmp_path: Path, case: str) -> None:
    keys = [
        line.replace(". TXT ", " ").replace('" "', "").replace('"', "")
        for line in ZONE.splitlines()
        if "_domainkey" in line
    ]
    (tmp_path / "keys").write_text("\n".join(keys) + "\n")
    (tmp_path / "conf").write_text(f"Mode v\nTestPublicKeys {tmp_path}/keys\nSyslog no\n")
    (tmp_path / "letter.eml").write_bytes(CASES[case][0])
    told = _run(str(OPENDKIM), "-x", str(tmp_path / "conf"), "-vvv", "-t", str(tmp_path / "letter.eml"))
    theirs = re.findall(r"dkim=(\w+)", told)
    found, _ = ours(names, case)
    assert [one.result for one in found.signatures] == theirs[:1]


@pytest.mark.skipif(OPENDMARC is None or not SUFFIXES.is_file(), reason="opendmarc is not installed")
@pytest.mark.parametrize("case", CASES)
def test_opendmarc_comes_to_our_verdict_by_our_results(names: DnsServer, tmp_path: Path, case: str) -> None:
    found, told = ours(names, case)
    (tmp_path / "letter.eml").write_bytes(told)
    (tmp_path / "resolv.conf").write_text(f"nameserver {RESOLVER_HOST}\n")
    (tmp_path / "conf").write_text(
        f"AuthservID judge.test\nTrustedAuthservIDs {AUTHSERV_ID}\nPublicSuffixList {SUFFIXES}\nSyslog false\n"
    )
    theirs = re.search(r"dmarc=(\w+) \(p=(\w+)", _opendmarc(tmp_path, *CASES[case][1:]))
    assert theirs is not None
    assert found.dmarc is not None
    assert found.dmarc.result == theirs[1]
    assert theirs[2] in (found.dmarc.requested, "none") if found.dmarc.result == "fail" else True


RSPAMD_SAYS = {
    "spf": {"pass": "R_SPF_ALLOW", "fail": "R_SPF_FAIL", "neutral": "R_SPF_NEUTRAL", "none": "R_SPF_NA"},
    "dkim": {"pass": "R_DKIM_ALLOW", "fail": "R_DKIM_REJECT", "none": "R_DKIM_NA"},
    "dmarc": {"pass": "DMARC_POLICY_ALLOW", "none": "DMARC_NA"},
}
RSPAMD_ASKS = {"reject": "DMARC_POLICY_REJECT", "quarantine": "DMARC_POLICY_QUARANTINE"}


@pytest.fixture(scope="module")
def rspamd(tmp_path_factory: pytest.TempPathFactory, names: DnsServer) -> Iterator[Program]:
    with filter_programs.rspamd(tmp_path_factory.mktemp("rspamd"), names.address) as program:
        yield program


@pytest.mark.parametrize("case", CASES)
def test_rspamd_comes_to_our_verdict(names: DnsServer, rspamd: Program, case: str) -> None:
    found, _ = ours(names, case)
    data, sender, client = CASES[case]
    told = {"IP": client, "Helo": "mx.sender.com", "From": sender or "<>", "Rcpt": "alice@example.test"}
    request = urllib.request.Request(f"http://{rspamd.address}/checkv2", data, told)
    with urllib.request.urlopen(request, timeout=30) as answer:
        symbols = json.load(answer)["symbols"]
    dkim = found.signatures[0].result if found.signatures else "none"
    assert found.dmarc is not None
    says = RSPAMD_SAYS["dmarc"].get(found.dmarc.result) or RSPAMD_ASKS[found.dmarc.requested]
    assert {RSPAMD_SAYS["dkim"][dkim], says} <= symbols.keys()
    if sender:
        assert RSPAMD_SAYS["spf"][found.spf.result] in symbols


def _opendmarc(folder: Path, sender: str, client: str) -> str:
    script = 'mount --bind "$1/resolv.conf" /etc/resolv.conf && exec "$2" -c "$1/conf" -vvv -t "$1/letter.eml"'
    told = {"CLIENTIP": client, "CLIENTHOST": "mx.sender.com", "HELOHOST": "mx.sender.com", "ENVFROM": f"<{sender}>"}
    environment = {f"OPENDMARC_TEST_{name}": value for name, value in told.items()}
    return _run("unshare", "-m", "sh", "-c", script, "sh", str(folder), str(OPENDMARC), **environment)


def _run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=False, env={**os.environ, **environment}
    )
    return done.stdout + done.stderr
