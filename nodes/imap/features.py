"""What a client has switched on for its session (RFC 5161), by ENABLE or by using it."""

from dataclasses import dataclass

_NAMES = {"IMAP4REV2": "IMAP4rev2"}  # as they are told, where they are not in capitals


@dataclass(slots=True)
class Features:
    """Once on, on until the session ends."""

    condstore: bool = False  # RFC 7162: FETCH responses carry MODSEQ
    qresync: bool = False  # RFC 7162: and the UID; VANISHED stands for EXPUNGE
    rev2: bool = False  # RFC 9051: nothing is recent, SEARCH is answered by ESEARCH
    utf8: bool = False  # RFC 9755, RFC 9051: names are UTF-8
    utf8_accept: bool = False  # RFC 9755: and SEARCH takes no CHARSET
    uidonly: bool = False  # RFC 9586: no message has a number

    def enable(self, name: str) -> str | None:
        """What was switched on, as it is told; None where there is no such thing (RFC 5161 3.1: it is ignored)."""
        match name:
            case "CONDSTORE":
                self.condstore = True
            case "QRESYNC":
                self.condstore = self.qresync = True  # RFC 7162 3.2.3: the one goes with the other
            case "IMAP4REV2":
                self.rev2 = self.utf8 = True
            case "UTF8=ACCEPT":
                self.utf8 = self.utf8_accept = True
            case "UIDONLY":
                self.uidonly = True
            case _:
                return None
        return _NAMES.get(name, name)

    @property
    def vanishes(self) -> bool:
        """Whether VANISHED stands for EXPUNGE."""
        return self.qresync or self.uidonly
