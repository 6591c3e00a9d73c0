"""The file that a tenant's archive is kept in: the frames that the cell sent, each encrypted and in its place.

AES-256-GCM under a key of its own, which is derived of a key of the key file (as backups have them) and a salt; the
nonce is the number of the frame. So nothing can be altered, left out, moved or added, and what ends early shows. The
head names format, key and salt, and is bound to every frame.
"""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cli.output import CommandError
from eventlog.segment_keys import KeyFileError, KeyRing, read_keys
from nodes.tenants.archive import MOST_FRAME_BYTES, ArchiveError, End, Frame, Manifest, unpack

MAGIC = b"mailraft tenant 1\n"
SALT_BYTES = 16
_ID_BYTES = 8
_TAG_BYTES = 16
_LENGTH = struct.Struct(">I")
HEAD_BYTES = len(MAGIC) + _ID_BYTES + SALT_BYTES
_HINT = "the whole file, as mailraft tenant export wrote it"


class Keys(NamedTuple):
    """Derived for one archive: of its frames, and of the secrets in them."""

    frames: bytes
    secrets: bytes


class Head(NamedTuple):
    """What stands in front of the frames."""

    packed: bytes
    keys: Keys


def new_head(key_file: Path) -> Head:
    """Of an archive under the newest key of a file. Raises CommandError."""
    ring = _ring(key_file)
    packed = MAGIC + bytes.fromhex(ring.current) + os.urandom(SALT_BYTES)
    return Head(packed, _keys(ring.key(ring.current), packed))


def write(file: IO[bytes], head: Head, frames: Iterable[bytes]) -> Iterator[bytes]:
    """Writes frames (without their lengths) as they come, and gives each back."""
    cipher = AESGCM(head.keys.frames)
    file.write(head.packed)
    for number, frame in enumerate(frames):
        sealed = cipher.encrypt(_nonce(number), frame, head.packed)
        file.write(_LENGTH.pack(len(sealed)) + sealed)
        yield frame


class ArchiveFile:
    """An archive that is there. Raises CommandError where it is none, or not under a key of the key file."""

    def __init__(self, path: Path, key_file: Path) -> None:
        self.path = path
        self.size_bytes = path.stat().st_size
        ring = _ring(key_file)
        with path.open("rb") as file:
            self._head = file.read(HEAD_BYTES)
        if not self._head.startswith(MAGIC):
            raise CommandError(f"{path}: this is no archive of a tenant", _HINT)
        if len(self._head) < HEAD_BYTES:
            raise CommandError(f"{path}: it ends in its head", _HINT)
        id_ = self._head[len(MAGIC) :][:_ID_BYTES].hex()
        if id_ not in ring:
            raise CommandError(
                f"{path}: it is encrypted under the key {id_}, which {key_file} does not hold", "--key-file"
            )
        self.keys = _keys(ring.key(id_), self._head)

    def frames(self) -> Iterator[tuple[Frame, bytes, int]]:
        """Each frame with its bytes, and how many bytes of the file are read. Raises CommandError."""
        cipher, last = AESGCM(self.keys.frames), None
        with self.path.open("rb") as file:
            file.seek(HEAD_BYTES)
            for number, sealed in enumerate(self._sealed(file)):
                try:
                    data = cipher.decrypt(_nonce(number), sealed, self._head)
                    last = unpack(data)
                except (InvalidTag, ArchiveError):
                    raise CommandError(f"{self.path}: it was altered in its part {number + 1}", _HINT) from None
                if (number == 0) != isinstance(last, Manifest):
                    raise CommandError(f"{self.path}: its manifest is not where it belongs", _HINT)
                yield last, data, file.tell()
        if not isinstance(last, End):
            raise CommandError(f"{self.path}: it is cut short: its end is missing", _HINT)

    def _sealed(self, file: IO[bytes]) -> Iterator[bytes]:
        while head := file.read(_LENGTH.size):
            length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 0
            if length > MOST_FRAME_BYTES + _TAG_BYTES:
                raise CommandError(f"{self.path}: it was altered: a part can not have {length} bytes", _HINT)
            sealed = file.read(length)
            if not length or len(sealed) < length:
                raise CommandError(f"{self.path}: it is cut short", _HINT)
            yield sealed


def _ring(key_file: Path) -> KeyRing:
    try:
        return read_keys(key_file)
    except KeyFileError as error:
        raise CommandError(str(error), "mailraft backup key FILE makes a key file") from None


def _keys(key: bytes, head: bytes) -> Keys:
    return Keys(
        *(
            hmac.digest(key, b"mailraft tenant archive " + what + b"\0" + head, "sha256")
            for what in (b"frames", b"secrets")
        )
    )


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")
