"""The files that a configuration names: whether they can be used, and by whom.

What a node would not start with is a problem of the configuration, told with all others; what it starts with all the
same, an expired certificate or a key that others may read, is a warning.
"""

from __future__ import annotations

import datetime
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

from nodes.config.node import NodeConfig, TlsSection
from nodes.config.secrets import SecretError, read_secret
from nodes.config.sources import ConfigError, Problem
from nodes.config.words import shown_path
from nodes.tls.chain import BadCertificate, Expired
from nodes.tls.pairs import chain_of, pairs_of, read_pair


def check_files(config: NodeConfig) -> None:
    """Raises ConfigError for each file that the configuration names and that can not be read."""
    wrong: list[Problem] = []
    named = [(f"tls.{key}", path) for key, path in config.tls]
    wrong += _missing_secrets(config)
    if not config.secrets.cluster_key:
        named.append(("secrets.cluster_key_file", config.secrets.cluster_key_file))
    for name, path in [*named, ("delivery.trust", config.delivery.trust)]:
        if path is None:
            continue
        try:
            path.open("rb").close()
        except OSError as error:
            wrong.append(Problem("", name, shown_path(path), f"can not be read: {error.strerror}"))
    if not wrong:
        wrong = _damaged_tls_files(config.tls) or list(_unusable(config.tls))
    if wrong:
        raise ConfigError(wrong)


def _damaged_tls_files(tls: TlsSection) -> list[Problem]:
    """What is wrong with what stands in the files, which can be read."""
    pairs = [("certificate", tls.certificate, "key", tls.key)]
    if tls.server_certificate is not None and tls.server_key is not None:
        pairs.append(("server_certificate", tls.server_certificate, "server_key", tls.server_key))
    certificates = [("ca", tls.ca), *((name, path) for name, path, _, _ in pairs)]
    wrong = [
        Problem("", f"tls.{name}", f'"{path}"', "holds no certificate in PEM form")
        for name, path in certificates
        if not _holds_one(path)
    ]
    for name, path, key_name, key in () if wrong else pairs:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, key, password="")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                reason = f'is not the key of tls.{name} = "{path}"'
            else:
                reason = "holds no private key in PEM form without a password"
            wrong.append(Problem("", f"tls.{key_name}", f'"{key}"', reason))
    return wrong


def _unusable(tls: TlsSection) -> Iterator[Problem]:
    """Chains that no client could follow, weak keys, certificates of the future."""
    for pair in pairs_of(tls):
        try:
            chain_of(pair, tls.ca, datetime.datetime.now(datetime.UTC))
        except Expired:
            continue  # a node starts with it: expired() says so
        except BadCertificate as error:
            yield Problem("", pair.certificate_key, f'"{pair.certificate}"', f"{error}; needed: {error.hint}")


def expired(tls: TlsSection) -> list[str]:
    """One line for each certificate that has expired: a node starts with it, and clients turn away."""
    found = []
    for pair in pairs_of(tls):
        try:
            read_pair(pair, tls.ca, datetime.datetime.now(datetime.UTC))
        except Expired as error:
            found.append(f"{error}: {error.hint}")
    return found


def _holds_one(certificate: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cafile=certificate)
    except ssl.SSLError:
        return False
    return True


def _missing_secrets(config: NodeConfig) -> Iterator[Problem]:
    """References that lead to nothing; and, where the profile is strict, files that others may use."""
    if config.secrets.cluster_key:
        try:
            read_secret(config.secrets.cluster_key)
        except SecretError as error:
            yield Problem("", "secrets.cluster_key", "", str(error))
    for reference in [one.bind_password for one in config.ldap.all if one.bind_password]:
        try:
            read_secret(reference)
        except SecretError as error:
            yield Problem("", "ldap.bind_password", "", str(error))
    if config.node.profile == "strict":
        for name, path, mode in _open_files(config):
            reason = f"has mode {mode:04o}, so others than its owner may use it: chmod 0600"
            yield Problem("", name, f'"{path}"', reason)


def open_secrets(config: NodeConfig) -> list[str]:
    """One line for each file with a secret that others than its owner may read or write."""
    return [
        f"{name} = {path}: has mode {mode:04o}, so others than its owner may use it: chmod 0600"
        for name, path, mode in _open_files(config)
    ]


def _open_files(config: NodeConfig) -> Iterator[tuple[str, Path, int]]:
    files = {
        "tls.key": config.tls.key,
        "tls.server_key": config.tls.server_key,
        "secrets.cluster_key_file": None if config.secrets.cluster_key else config.secrets.cluster_key_file,
    }
    for name, path in files.items():
        if path is not None and path.is_file():
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                yield name, path, mode
