"""What ACL (RFC 4314) asks; `identifier` without the hyphen of negative rights."""

from dataclasses import dataclass

from actors.mailbox_acl import Mode


@dataclass(frozen=True, slots=True)
class SetAcl:
    """SETACL; DELETEACL is one without rights."""

    name: str
    identifier: str
    negative: bool
    rights: str
    mode: Mode


@dataclass(frozen=True, slots=True)
class GetAcl:
    """GETACL"""

    name: str


@dataclass(frozen=True, slots=True)
class ListRights:
    """LISTRIGHTS"""

    name: str
    identifier: str


@dataclass(frozen=True, slots=True)
class MyRights:
    """MYRIGHTS"""

    name: str
