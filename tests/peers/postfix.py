"""A private Postfix that receives for example.test into Maildirs, with TLS: an MTA of the internet, on loopback."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from cli.bench.postfix_peer import PostfixPeer

MORE = """
virtual_mailbox_domains = example.test
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = inline:{{ bob@example.test=bob/ ann@example.test=ann/ }}
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
mynetworks = 192.0.2.1
smtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination
smtputf8_enable = yes
smtpd_tls_security_level = may
smtpd_tls_chain_files = {chain}
smtpd_tls_loglevel = 1
message_size_limit = 200000
alias_maps =
local_recipient_maps =
"""


def missing() -> str:
    """Why it can not run here, "" if it can."""
    if shutil.which("postfix") is None:
        return "postfix is not installed"
    return "" if os.geteuid() == 0 else "Postfix's master needs root"


class PostfixReceiver(PostfixPeer):
    """`mails(user)`: what has come for bob or ann."""

    def __init__(self, port: int, chain: Path) -> None:
        super().__init__(port)
        self.port = port
        self._chain = chain

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        super().__exit__(kind, error, tb)

    def mails(self, user: str) -> list[bytes]:
        return [one.read_bytes() for one in sorted((self._folder / "mail" / user / "new").glob("*"))]

    @property
    def log(self) -> str:
        return (self._folder / "maillog").read_text()

    def _configure(self) -> None:
        super()._configure()
        mail = self._folder / "mail"
        mail.mkdir()
        shutil.chown(mail, "postfix", "postfix")
        chain = self._folder / "chain.pem"
        shutil.copy(self._chain, chain)
        owner = mail.stat()
        with (self._folder / "etc" / "main.cf").open("a") as file:
            file.write(MORE.format(folder=self._folder, uid=owner.st_uid, gid=owner.st_gid, chain=chain))
