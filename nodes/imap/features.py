"""What a client has switched on for its session (RFC 5161), by ENABLE or by using it."""

from dataclasses import dataclass


@dataclass(slots=True)
class Features:
    """Once on, on until the session ends."""

    condstore: bool = False  # RFC 7162: FETCH responses carry MODSEQ
    qresync: bool = False  # RFC 7162: and the UID; VANISHED stands for EXPUNGE

    def enable(self, name: str) -> bool:
        """Whether there is such a thing to enable (RFC 5161 3.1: others are ignored)."""
        match name:
            case "CONDSTORE":
                self.condstore = True
            case "QRESYNC":
                self.condstore = self.qresync = True  # RFC 7162 3.2.3: the one goes with the other
            case _:
                return False
        return True
