"""OpenSSL's own OCSP responder, and certificates that name it."""

from __future__ import annotations

import datetime
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from tests.peers import certificates
from tests.peers.certificates import Pair

END = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)


def stapled(url: str, *names: str, issuer: Pair, must: bool = False) -> Pair:
    """A certificate whose authority answers for it at `url`."""
    access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(url))
    extensions: list[x509.ExtensionType] = [x509.AuthorityInformationAccess([access])]
    if must:
        extensions.append(x509.TLSFeature([x509.TLSFeatureType.status_request]))
    return certificates.server(*(names or ("localhost",)), issuer=issuer, extensions=extensions)


@contextmanager
def responder(folder: Path, port: int, pair: Pair, issuer: Pair) -> Iterator[None]:
    """`openssl ocsp`, which knows this one certificate as valid."""
    serial = f"{pair.certificate.serial_number:X}"
    line = f"V\t{END:%y%m%d%H%M%S}Z\t\t{serial.zfill(len(serial) + len(serial) % 2)}\tunknown\t/CN=localhost\n"
    (folder / "index.txt").write_text(line)
    (folder / "root.pem").write_bytes(issuer.pem + issuer.key_pem)
    root = str(folder / "root.pem")
    command = ["openssl", "ocsp", "-port", str(port), "-index", str(folder / "index.txt"), "-CA", root]
    command += ["-rsigner", root, "-rkey", root, "-nmin", "10", "-ignore_err"]
    said = folder / "ocsp.log"
    with said.open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline_s = time.monotonic() + 20
        while "waiting for" not in said.read_text():  # to ask it would be a request, which it takes one at a time
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        yield
    finally:
        running.kill()
        running.wait()
