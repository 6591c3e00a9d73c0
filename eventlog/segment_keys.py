"""The keys that segments are encrypted under: a ring in one file, the newest last, each known by an id of its own.

The id is a hash of the key, so that a key file holds keys and nothing else, and a segment can say which of them opens
it without telling anything about it. Keys are rotated by adding one; an old one stays while a segment names it.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from eventlog.errors import LogError

KEY_BYTES = 32
ID_BYTES = 8
MAX_KEYS = 1000


class KeyFileError(LogError):
    """The file does not hold keys, or not the one that is needed. Never shows what it holds."""

    code = "archive_failed"


def key_id(key: bytes) -> str:
    """What a segment calls the key by: 16 hexadecimal digits."""
    return hashlib.sha256(b"mailraft/segment-key\0" + key).digest()[:ID_BYTES].hex()


class KeyRing:
    """Keys by id; the last one given is what new segments are encrypted under."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._keys = {key_id(key): key for key in keys}
        if not self._keys:
            raise KeyFileError("a key ring holds at least one key")
        self.current = next(reversed(self._keys))

    def __contains__(self, id_: object) -> bool:
        return id_ in self._keys

    @property
    def ids(self) -> tuple[str, ...]:
        """All of them, the current one last."""
        return tuple(self._keys)

    def key(self, id_: str) -> bytes:
        """The key of that id. Raises KeyFileError."""
        try:
            return self._keys[id_]
        except KeyError:
            raise KeyFileError(f"the key {id_} is not in the key file (it has {', '.join(self._keys)})") from None


def read_keys(path: Path) -> KeyRing:
    """The ring in a file: a key a line, 64 hexadecimal digits; what follows a `#` is a remark. Raises KeyFileError."""
    try:
        lines = path.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path}: can not be read: {getattr(error, 'strerror', None) or 'it is not text'}") from None
    words = [word for line in lines if (word := line.partition("#")[0].strip())]
    try:
        keys = [bytes.fromhex(word) for word in words]
    except ValueError:
        keys = []
    if not keys or len(keys) > MAX_KEYS or any(len(key) != KEY_BYTES for key in keys):
        raise KeyFileError(f"{path}: must hold keys of {KEY_BYTES} bytes in hexadecimal, one a line")
    return KeyRing(keys)


def add_key(path: Path, remark: str = "") -> str:
    """Puts a new random key at the end of a file, which is made if it is not there (mode 0600); gives its id."""
    if path.exists():
        read_keys(path)
    key = os.urandom(KEY_BYTES)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a") as file:
        if file.tell() and not path.read_bytes().endswith(b"\n"):
            file.write("\n")
        file.write(f"{key.hex()}  # {key_id(key)}{f' {remark}' if remark else ''}\n")
        file.flush()
        os.fsync(file.fileno())
    return key_id(key)
