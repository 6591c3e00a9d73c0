"""A mailraft cluster on the internet of the tests: MX on port 25 of its own addresses, names and keys in the zone."""

from __future__ import annotations

import json
import sys
import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from tests.internet.internet import RESOLVER, Internet, wait_listening
from tests.internet.keys import make_certificate, spki_sha256

PASSWORD = "a long password"

READ = """\
import imaplib, sys, json
with imaplib.IMAP4(sys.argv[1], int(sys.argv[2])) as client:
    client.login(sys.argv[3], sys.argv[4])
    found = []
    for folder in ("INBOX", "Junk"):
        client.select(folder, readonly=True)
        _, data = client.search(None, "ALL")
        for number in data[0].split():
            _, parts = client.fetch(number.decode(), "(BODY.PEEK[])")
            found.append([folder, parts[0][1].decode("latin-1")])
print(json.dumps(found))
"""

SUBMIT = """\
import smtplib, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[5])
with smtplib.SMTP(sys.argv[1], int(sys.argv[2])) as client:
    client._host = sys.argv[6]
    client.starttls(context=context)
    client.login(sys.argv[3], sys.argv[4])
    data = sys.stdin.buffer.read()
    client.sendmail(sys.argv[3], sys.argv[7:], data)
"""


class InternetCell:
    """`make` writes it, `publish` says what belongs into the zone, `start` runs it; stopped by `stop`."""

    def __init__(self, net: Internet, folder: Path, domain: str, hosts: list[str], base_port: int) -> None:
        self.net = net
        self.domain = domain
        self.folder = folder
        self._hosts = hosts
        self._base_port = base_port

    def make(self, settings: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Writes the configuration; `settings` are more keys of each node, by section."""
        self.mailraft(
            "cluster", "init", str(self.folder), "--nodes", str(len(self._hosts)), "--base-port", str(self._base_port)
        )
        for number, host in enumerate(self._hosts, 1):
            path = self.folder / f"n{number}" / "mailraft.toml"
            document = tomllib.loads(path.read_text())
            address = self.net.hosts[host]
            make_certificate(path.parent, host)
            for section, values in {
                "node": {"hostname": host},
                "listen": {"smtp": f"{address}:25"},
                "tls": {"server_certificate": "host.pem", "server_key": "host.key"},
                "dns": {"nameservers": [f"{RESOLVER}:53"], "trust_ad": True},
                "delivery": {"sources": {"default": [address]}, "families": "ipv4"},
                "queue": {"retry_first_s": 1.0, "retry_max_s": 2.0, "takeover_s": 1.0, "lease_s": 10.0},
                "verdicts": {"judge": "always"},
                **(settings or {}),
            }.items():
                document.setdefault(section, {}).update(values)
            path.write_bytes(tomli_w.dumps(document).encode())

    def start(self) -> None:
        """Runs its nodes, and makes the tenant with alice and bob."""
        self.mailraft("cluster", "up", str(self.folder), "--detach")
        for host in self._hosts:
            wait_listening(self.net, self.net.hosts[host], 25)
        self.mailraft("tenant", "add", "here", "--domain", self.domain)
        for name in ("alice", "bob"):
            self.mailraft("account", "add", f"{name}@{self.domain}", "--password-stdin", stdin=PASSWORD + "\n")

    def stop(self) -> None:
        self.mailraft("cluster", "down", str(self.folder), check=False)

    def records(self) -> str:
        """MX, SPF, DKIM and DMARC of the domain; makes the keys."""
        short = self.domain.removesuffix(".test")
        made = json.loads(self.mailraft("dkim", "generate", self.domain, "--json"))["keys"]
        lines = [f"{short} MX 10 {host}." for host in self._hosts]
        for number, host in enumerate(self._hosts, 1):
            digest = spki_sha256(self.folder / f"n{number}" / "host.pem")
            lines.append(f"_25._tcp.{host}. TLSA 3 1 1 {digest}")
        lines.append(f'{short} TXT "v=spf1 mx -all"')
        lines.append(f'_dmarc.{short} TXT "v=DMARC1; p=reject; rua=mailto:postmaster@{self.domain}"')
        return "\n".join(lines + [key["zone_line"].replace(" 3600 ", " ") for key in made])

    def mailraft(self, *words: str, stdin: str = "", check: bool = True) -> str:
        """Runs the command inside, against this cluster; what it printed."""
        program = [sys.executable, "-P", "-m", "cli.main", *words]
        done = self.net.run("env", f"MAILRAFT_CLUSTER={self.folder}", *program, stdin=stdin, check=check)
        return done.stdout

    def node(self, number: int) -> dict[str, Any]:
        nodes: list[dict[str, Any]] = json.loads(self.mailraft("cluster", "status", "--json"))["nodes"]
        return nodes[number - 1]

    def submit(self, sender: str, recipients: list[str], text: str, node: int = 1) -> None:
        """Sends as a logged-in client does, over submission with TLS."""
        host, _, port = self.node(node)["endpoints"]["submission"].rpartition(":")
        name = self._hosts[node - 1]
        trusted = str(self.folder / f"n{node}" / "host.pem")
        words = (sys.executable, "-c", SUBMIT, host, port, sender, PASSWORD, trusted, name, *recipients)
        self.net.run(*words, stdin=textwrap.dedent(text).lstrip().replace("\n", "\r\n"))

    def mails(self, name: str, node: int = 1) -> list[tuple[str, str]]:
        """What `name` has: folder and the whole message, of INBOX and Junk."""
        host, _, port = self.node(node)["endpoints"]["imap"].rpartition(":")
        said = self.net.run(sys.executable, "-c", READ, host, port, f"{name}@{self.domain}", PASSWORD).stdout
        return [(folder, text) for folder, text in json.loads(said)]
