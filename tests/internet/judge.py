"""Postfix with OpenDKIM and OpenDMARC in front: another mail server on the internet of the tests, and its judges.

It takes mail for one domain into Maildirs, sends with its own DKIM signature, and asks the judges of whatever comes.
"""

from __future__ import annotations

import mailbox
import os
import shutil
import subprocess
from email.message import Message
from pathlib import Path

from cli.bench.postfix_peer import MASTERS
from tests.internet.internet import RESOLVER, Internet, run, wait_listening
from tests.internet.keys import make_certificate, spki_sha256

SELECTOR = "judge"
PROGRAMS = ("postfix", "opendkim", "opendmarc", "opendkim-genkey")

MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = {host}
myorigin = {domain}
mydestination =
alias_maps =
inet_interfaces = {address}
inet_protocols = ipv4
mynetworks = {address}/32
smtp_bind_address = {address}
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = static:{domain}/user/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
smtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_tls_cert_file = {folder}/host.pem
smtpd_tls_key_file = {folder}/host.key
smtpd_tls_security_level = may
smtpd_tls_received_header = yes
smtp_tls_loglevel = 1
smtp_dns_support_level = dnssec
smtp_tls_security_level = dane
smtpd_milters = unix:{folder}/opendkim.sock, unix:{folder}/opendmarc.sock
non_smtpd_milters = unix:{folder}/opendkim.sock
milter_default_action = tempfail
minimal_backoff_time = 2s
maximal_backoff_time = 4s
queue_run_delay = 2s
maillog_file_prefixes = {folder}
maillog_file = {folder}/maillog
"""

OPENDKIM = """\
Socket local:{folder}/opendkim.sock
UMask 000
Mode sv
Domain {domain}
Selector {selector}
KeyFile {folder}/{selector}.private
SigningTable refile:{folder}/signing
KeyTable {folder}/keys
InternalHosts {folder}/internal
RequireSafeKeys no
AlwaysAddARHeader yes
ResolverConfiguration {folder}/resolver.conf
AuthservID {host}
Syslog no
"""

OPENDKIM_RESOLVER = """\
server:
  local-zone: "test." nodefault
  do-not-query-localhost: no
forward-zone:
  name: "."
  forward-addr: {resolver}
"""

OPENDMARC = """\
Socket local:{folder}/opendmarc.sock
UMask 000
AuthservID {host}
TrustedAuthservIDs {host}
RejectFailures true
SPFSelfValidate true
SPFIgnoreResults true
Syslog no
"""


def missing() -> str:
    """Which of its programs are not installed, "" if all are."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    lacking = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    return f"not installed: {', '.join(lacking)} (scripts/debian-packages)" if lacking else ""


class Judge:
    """`with Judge(net, folder, "post.test", "mx.post.test"):`; `publish` its records first of all."""

    def __init__(self, net: Internet, folder: Path, domain: str, host: str) -> None:
        self.domain, self.host = domain, host
        self.address = net.hosts[host]
        self._net = net
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Has Postfix and its judges run and listen."""
        self._configure()
        self._started = [
            self._net.start("opendkim", "-f", "-x", str(self._folder / "opendkim.conf")),
            self._net.start("opendmarc", "-f", "-c", str(self._folder / "opendmarc.conf")),
        ]
        self._net.run("env", f"MAIL_CONFIG={self._folder / 'etc'}", "postfix", "start")
        wait_listening(self._net, self.address, 25)

    def stop(self) -> None:
        self._net.run("env", f"MAIL_CONFIG={self._folder / 'etc'}", "postfix", "stop", check=False)

    def records(self) -> str:
        """Its names for the zone: MX, SPF, DKIM, DMARC and TLSA."""
        short, host = self.domain.removesuffix(".test"), self.host.removesuffix(".test")
        dkim = (self._folder / f"{SELECTOR}.txt").read_text()
        value = dkim[dkim.index("(") + 1 : dkim.rindex(")")].replace("\n", " ")
        return (
            f"{short} MX 10 {self.host}.\n"
            f'{short} TXT "v=spf1 ip4:{self.address} -all"\n'
            f"{SELECTOR}._domainkey.{short} TXT {value}\n"
            f'_dmarc.{short} TXT "v=DMARC1; p=reject; adkim=s; aspf=s"\n'
            f"_25._tcp.{host} TLSA 3 1 1 {spki_sha256(self._folder / 'host.pem')}\n"
        )

    def make(self) -> None:
        """Writes keys and a certificate; `records` needs them."""
        self._folder.mkdir(mode=0o755)
        run("opendkim-genkey", "-b", "2048", "-s", SELECTOR, "-d", self.domain, "-D", str(self._folder))
        make_certificate(self._folder, self.host)

    def send(self, recipient: str, data: str) -> None:
        """Has Postfix send a message from a user of its domain, as its own user would."""
        sender = f"user@{self.domain}"
        command = ("env", f"MAIL_CONFIG={self._folder / 'etc'}", "sendmail", "-f", sender, recipient)
        self._net.run(*command, stdin=data)

    def inbox(self) -> list[Message]:
        """What has come for its user."""
        folder = self._folder / "mail" / self.domain / "user"
        return list(mailbox.Maildir(folder, create=False)) if folder.exists() else []

    @property
    def log(self) -> str:
        return (self._folder / "maillog").read_text()

    def _configure(self) -> None:
        folder = self._folder
        for name in ("etc", "queue", "data", "mail"):
            (folder / name).mkdir()
        shutil.chown(folder / "data", "postfix")
        shutil.chown(folder / "mail", "nobody", "nogroup")
        stat = os.stat(folder / "mail")
        facts = {
            "folder": folder,
            "domain": self.domain,
            "host": self.host,
            "address": self.address,
            "selector": SELECTOR,
            "uid": stat.st_uid,
            "gid": stat.st_gid,
        }
        (folder / "etc" / "main.cf").write_text(MAIN_CF.format(**facts))
        (folder / "etc" / "master.cf").write_text(_master())
        (folder / "opendkim.conf").write_text(OPENDKIM.format(**facts))
        (folder / "opendmarc.conf").write_text(OPENDMARC.format(**facts))
        (folder / "resolver.conf").write_text(OPENDKIM_RESOLVER.format(resolver=RESOLVER))
        (folder / "internal").write_text(f"{self.address}\n127.0.0.1\n")
        (folder / "keys").write_text(f"{SELECTOR} {self.domain}:{SELECTOR}:{folder}/{SELECTOR}.private\n")
        (folder / "signing").write_text(f"*@{self.domain} {SELECTOR}\n")


def _master() -> str:
    """The distribution's services without chroot."""
    dist = next(path for path in MASTERS if path.exists())
    lines = []
    for line in dist.read_text().splitlines():
        fields = line.split()
        if not line.startswith((" ", "\t", "#")) and len(fields) >= 8:
            line = " ".join([*fields[:4], "n" if fields[4] == "y" else fields[4], *fields[5:]])
        lines.append(line)
    return "\n".join(lines) + "\n"
