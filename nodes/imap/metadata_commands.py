"""What METADATA (RFC 5464) and QUOTA (RFC 9208) ask."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GetMetadata:
    """GETMETADATA; of the server where `name` is empty. `depth` None: all that is below."""

    name: str
    entries: tuple[str, ...]
    depth: int | None = 0
    max_size: int | None = None


@dataclass(frozen=True, slots=True)
class SetMetadata:
    """SETMETADATA; None removes."""

    name: str
    changes: tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class GetQuota:
    """GETQUOTA"""

    root: str


@dataclass(frozen=True, slots=True)
class GetQuotaRoot:
    """GETQUOTAROOT"""

    name: str


@dataclass(frozen=True, slots=True)
class SetQuota:
    """SETQUOTA, which is for administrators, who do it elsewhere."""

    root: str
