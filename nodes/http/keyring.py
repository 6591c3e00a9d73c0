"""The cluster's keys over the admin API: which is used, which a node holds, a new one handed to a node, and used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from actors import keyring
from actors.keyring import KEYRING, UseKey
from actors.sealing import KEY_BYTES, NoSuchSealingKey
from nodes.http import rows
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.errors import ApiError
from nodes.http.models import Model
from nodes.http.places import CLUSTER
from nodes.resealing import add_key, counts

ENDPOINTS = Endpoints("config")
NO_FILE, NOT_HELD = "key_not_in_a_file", "key_not_held"

KeyId = Annotated[str, Field(pattern="^[0-9a-f]{8}$", examples=["0a1b2c3d"])]


class SealingKey(Model):
    """One of the cell's keys."""

    id: KeyId
    state: str = Field(description="first, used, older, new or retired", examples=["used"])
    sealed: int = Field(ge=0, description="Secrets in force that are sealed under it.")
    holders: list[str] = Field(description="Nodes that said they hold it; of the first key none says so.")


class SealingKeys(Model):
    """What the node that answers holds, oldest first."""

    keys: list[SealingKey]


class NewSealingKey(Model):
    """32 bytes in hexadecimal."""

    key: str = Field(pattern="^[0-9a-f]{64}$", examples=["00" * KEY_BYTES])


class KeyToUse(Model):
    """A key that every member holds."""

    id: KeyId


@ENDPOINTS.get("/v1/cluster-keys", "config:read", CLUSTER, SealingKeys, made_of=rows.SEALING_KEYS)
async def list_keys(call: Call) -> dict[str, Any]:
    """List the keys that secrets on the log are sealed under."""
    return _keys(call)


@ENDPOINTS.post("/v1/cluster-keys", "config:write", CLUSTER, SealingKeys, reads="local", problems=(NO_FILE,))
async def hand_key(call: Call, body: NewSealingKey) -> dict[str, Any]:
    """Hand a key to this node alone, which writes it into its file behind those that are there."""
    reference = call.services.config.secrets.key_reference
    if not reference.startswith("file:"):
        text, hint = "this node's keys come from elsewhere than a file", "add the key there, and start the node again"
        raise ApiError(422, "refused", text, hint, code=NO_FILE)
    try:
        add_key(Path(reference.removeprefix("file:")), call.directory.keys, bytes.fromhex(body.key))
    except OSError as error:
        text, hint = f"the key can not be written: {error.strerror}", "a file that the node may write to"
        raise ApiError(422, "refused", text, hint, code=NO_FILE) from None
    return _keys(call)


@ENDPOINTS.put(
    "/v1/cluster-keys", "config:write", CLUSTER, SealingKeys, problems=(NOT_HELD,), made_of=rows.SEALING_KEYS
)
async def use_key(call: Call, body: KeyToUse) -> dict[str, Any]:
    """Seal under this key from now on, at every node; what is there is sealed anew in the background."""
    id_ = bytes.fromhex(body.id)
    try:
        root = call.directory.keys.sealed_root(id_)
    except NoSuchSealingKey:
        text = f"the key {body.id} is not there at this node"
        raise ApiError(422, "refused", text, "mailraft cluster rotate-key DIR", code=NOT_HELD) from None
    members = tuple(member.name for member in call.services.log.members())
    await call.services.runtime.ask(KEYRING, UseKey(id_, root, members), call.context)
    return _keys(call)


def _keys(call: Call) -> dict[str, Any]:
    ring = call.directory.keys
    with call.services.log.snapshot() as snapshot:
        sealed = counts(snapshot)
        view = snapshot.view(KEYRING)
        gone, held = set(keyring.retired(view)), keyring.holders(view)
    first = ring.ids[0]
    used = ring.active or first
    found = []
    for at, id_ in enumerate(ring.ids):
        if id_ == used:
            state = "used"
        elif (id_ if id_ in held else b"") in gone:
            state = "retired"
        else:
            state = "older" if at < ring.ids.index(used) else "new"
        count = sealed.get(None, 0) if id_ == first else sealed.get(id_, 0)
        found.append({"id": id_.hex(), "state": state, "sealed": count, "holders": sorted(held.get(id_, ()))})
    return {"keys": found}
