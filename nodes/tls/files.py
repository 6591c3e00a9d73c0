"""Certificates that stand in files: loaded into every context that shows them, watched, and reloaded all or none.

A pair that can not be used is named with its key of the configuration, and what was loaded before stays in force.
"""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from nodes.config.node import TlsSection
from nodes.files import write_atomically
from nodes.services import Logger
from nodes.tls.admission import Admission
from nodes.tls.chain import BadCertificate, Chain, Expired
from nodes.tls.pairs import pairs_of, read_pair

WATCH_S = 10.0


class TlsFiles:
    """Raises BadCertificate when made of files that can not be used; an expired certificate is used, and said."""

    def __init__(self, section: TlsSection, logger: Logger, cell: str = "") -> None:
        """cell: the cluster's id, for who is admitted."""
        self._section = section
        self._logger = logger
        self._contexts: list[ssl.SSLContext] = []
        self.refusal = ""  # why the files as they are now are not taken
        self._pairs = list(pairs_of(section))
        self.node_pair = self._pairs[0]
        self._seen = self._stamp()
        self._chains = self._read(at_start=True)
        self.admission = Admission(cell, self.authorities)

    @property
    def node(self) -> Chain:
        """The certificate that this node shows to nodes and administrators."""
        return self._chains[0]

    @property
    def server(self) -> Chain:
        """The certificate that mail clients are shown where nothing else is for them."""
        return self._chains[-1]

    @property
    def authority(self) -> x509.Certificate:
        """The cell's own, which issues."""
        return self.authorities[0]

    @property
    def authorities(self) -> Sequence[x509.Certificate]:
        """That one, then those that are trusted beside it while one takes the place of another.

        Raises OSError, ValueError.
        """
        return x509.load_pem_x509_certificates(self._section.ca.read_bytes())

    def keep(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """A context that shows the node's certificate: it is told of each new one."""
        self._contexts.append(context)
        return context

    def reload(self) -> None:
        """Reads all files again: new connections use what they hold, those that are open stay.

        Raises BadCertificate where one of them can not be used; then nothing is changed.
        """
        seen = self._stamp()
        try:
            chains = self._read(at_start=False)
        except BadCertificate as error:
            self.refusal = str(error)
            raise
        self.refusal = ""
        for context in self._contexts:
            context.load_cert_chain(self.node_pair.certificate, self.node_pair.key)
        self._seen, self._chains = seen, chains

    def trust(self, authorities: Sequence[x509.Certificate]) -> None:
        """Takes certificates of these from now on and of no others; the first is the one in force. Raises OSError."""
        pem = b"".join(one.public_bytes(Encoding.PEM) for one in authorities)
        write_atomically(self._section.ca, pem)
        for context in self._contexts:
            context.load_verify_locations(cadata=pem.decode())
        self.admission.trust(authorities)

    async def watch(self) -> None:
        """Reloads when a file has changed, until it is cancelled. What is wrong is said once for each change."""
        refused = self._seen
        while True:
            await asyncio.sleep(WATCH_S)
            now = await asyncio.to_thread(self._stamp)
            if now in (self._seen, refused):
                continue
            await asyncio.sleep(1.0)  # the key may be written a moment after its certificate
            try:
                self.reload()
            except BadCertificate as error:
                refused = self._stamp()
                self._logger.error(
                    "changed certificates are not taken",
                    code="certificate_unusable",
                    reason=str(error),
                    hint=error.hint,
                )
            else:
                self._logger.info("changed certificates are in use")

    def _read(self, *, at_start: bool) -> list[Chain]:
        chains = []
        now = datetime.datetime.now(datetime.UTC)
        for pair in self._pairs:
            try:
                chains.append(read_pair(pair, self._section.ca, now))
            except Expired as error:
                if not at_start:  # to replace one certificate by another that has expired is no renewal
                    raise
                self._logger.error(
                    "a certificate has expired", code="certificate_unusable", reason=str(error), hint=error.hint
                )
                chains.append(read_pair(pair, self._section.ca, error.last_valid))
        return chains

    def _stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Changes when a file is written or replaced."""
        return tuple(_stat(path) for pair in self._pairs for path in (pair.certificate, pair.key))


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
