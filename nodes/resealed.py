"""A secret that an event holds, also where the key that it was sealed under is gone: it was sealed anew meanwhile.

Who reads the log from its beginning (a follower, an export) meets secrets as they were sealed then. What was in force
when the cluster's key rotated stands on the same stream again, under a later key, beside a hash of what it was before
(actors/keyring.py); from one to the next they lead to one that opens. What was superseded before that is lost with its
key, and nobody logs in with it.
"""

from __future__ import annotations

from actors.keyring import SecretResealed, mark
from actors.kind import decode
from actors.sealing import KeyRing, SealBroken
from eventlog.log import EventLog
from eventlog.record import decode_events
from eventlog.tables import LOG_HEAD


class Resealed:
    """What was sealed anew, by stream; a stream is read once, when the first secret on it does not open."""

    def __init__(self, log: EventLog, ring: KeyRing) -> None:
        self._log = log
        self._ring = ring
        self._later: dict[bytes, dict[bytes, bytes]] = {}

    def unseal(self, stream: bytes, sealed: bytes, place: bytes) -> bytes:
        """What was sealed. Blocking. Raises SealBroken."""
        try:
            return self._ring.unseal(sealed, place)
        except SealBroken:
            later = self._of(stream).get(mark(sealed))
            if not later:  # never sealed anew, or erased since
                raise
        return self.unseal(stream, later, place)

    def _of(self, stream: bytes) -> dict[bytes, bytes]:
        if stream not in self._later:
            found = self._later[stream] = {}
            with self._log.snapshot() as snapshot:
                for _, value in snapshot.stream_entries(stream):
                    for event in decode_events(value[LOG_HEAD.size :], stream)[3]:
                        if event.type == SecretResealed.TYPE:
                            fact = decode(event.type, event.version, event.data)
                            assert isinstance(fact, SecretResealed)
                            found[fact.mark] = fact.sealed
        return self._later[stream]
