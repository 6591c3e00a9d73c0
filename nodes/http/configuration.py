"""The configuration over the admin API: of the node that is asked, told anew; and what is set for the whole cell."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from actors import settings as settings_kind
from actors.settings import SETTINGS, ChangeSettings, settings
from nodes.config.cluster import changed_by, cluster_keys
from nodes.config.reloading import NotReloaded, Reloading
from nodes.config.report import NoSuchKey, explanation
from nodes.config.sources import ConfigError, Problem
from nodes.http import rows
from nodes.http.authority import STATE
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.errors import ApiError, FieldError
from nodes.http.models import Milliseconds, Model
from nodes.http.places import CLUSTER

ENDPOINTS = Endpoints("config")
EXPLAIN = "mailraft config explain KEY"
WRONG, NOT_RELOADED, NO_KEY = "config_wrong", "not_reloaded", "unknown_key"

Key = Annotated[str, Field(min_length=3, max_length=128, examples=["limits.recipients"])]
Shown = Annotated[str, Field(description="As people may see it: never a secret.", examples=["100"])]
Text = Annotated[str, Field(max_length=4096)]
Value = bool | int | float | Text | list[Text]


class NodeSetting(Model):
    """A key as it holds at one node."""

    value: Shown
    kind: str = Field(description="default, profile, file, variable, flag or cluster", examples=["file"])
    source: str = Field(description="The place that it came from.", examples=["/etc/mailraft/mailraft.toml, line 12"])


class NodeSettings(Model):
    """Every key of one node."""

    settings: dict[Key, NodeSetting]
    restart: list[Key] = Field(description="Keys that were changed and hold after a restart only.")


class KeyExplanation(NodeSetting):
    """All about one key, by title, and how it holds at this node."""

    key: Key
    about: dict[str, str] = Field(examples=[{"what": "Recipients of one message.", "may be": "a number of 1 or more"}])


class KeyChange(Model):
    """One key, before and after."""

    key: Key
    before: Shown
    after: Shown


class ReloadChanges(Model):
    """What a reload has changed."""

    changes: list[KeyChange]
    restart: list[Key] = Field(description="Keys that differ and hold after a restart only.")


class ClusterSetting(Model):
    """A setting of the whole cell."""

    value: Value = Field(examples=[500])
    set_ms: Milliseconds


class ClusterSettings(Model):
    """What is set for the whole cell, and what can be."""

    settings: dict[Key, ClusterSetting]
    keys: list[Key]


class NewClusterSettings(Model):
    """All of it or nothing. Text is read as in an environment variable."""

    set: dict[Key, Value] = Field(default={}, max_length=1000, examples=[{"limits.recipients": 500}])
    unset: list[Key] = Field(default=[], max_length=1000, examples=[[]])


@ENDPOINTS.get("/v1/config", "config:read", CLUSTER, NodeSettings, reads="local")
async def show(call: Call) -> dict[str, Any]:
    """Show every key as this node has it, and where it came from."""
    reloading = _reloading(call)
    found = {one.name: {"value": one.value, "kind": one.kind, "source": one.source} for one in reloading.settings()}
    return {"settings": found, "restart": list(reloading.restart)}


@ENDPOINTS.get("/v1/config/{key}", "config:read", CLUSTER, KeyExplanation, reads="local", problems=(NO_KEY,))
async def explain(call: Call) -> dict[str, Any]:
    """Explain one key, and show how it holds at this node."""
    try:
        about = dict(explanation(call.path["key"]))
    except NoSuchKey as error:
        raise ApiError(404, "not_found", str(error), "GET /v1/config lists every key", code=NO_KEY) from None
    held = next(one for one in _reloading(call).settings() if one.name == about["key"])
    return {"key": about.pop("key"), "about": about, "value": held.value, "kind": held.kind, "source": held.source}


@ENDPOINTS.post("/v1/reload", "config:write", CLUSTER, ReloadChanges, reads="local", problems=(WRONG, NOT_RELOADED))
async def reload(call: Call) -> dict[str, Any]:
    """Have this node read its configuration again: what is wrong changes nothing."""
    try:
        done = await _reloading(call).reload(call.context, "admin API")
    except ConfigError as error:
        raise _wrong(error.problems) from None
    except NotReloaded as error:
        text, hint = f"nothing was changed: {error}", error.hint or "mend it, and reload again"
        raise ApiError(422, "refused", text, hint, code=NOT_RELOADED) from None
    changes = [{"key": key, "before": before, "after": after} for key, before, after in done.changes]
    return {"changes": changes, "restart": list(done.restart)}


@ENDPOINTS.get("/v1/cluster-settings", "config:read", CLUSTER, ClusterSettings, made_of=rows.CELL_SETTINGS)
async def show_cluster(call: Call) -> dict[str, Any]:
    """Show what is set for the whole cell."""
    return _cluster(call)


@ENDPOINTS.put(
    "/v1/cluster-settings", "config:write", CLUSTER, ClusterSettings, problems=(WRONG,), made_of=rows.CELL_SETTINGS
)
async def change_cluster(call: Call, body: NewClusterSettings) -> dict[str, Any]:
    """Set keys for the whole cell, or have them as each node's configuration says: at every node at once."""
    config, problems = call.request.app[STATE].config, list[Problem]()
    for key, value in body.set.items():
        changed = changed_by(config, key, value)
        if isinstance(changed, list):
            problems += changed
        else:
            config = changed
    if problems:
        raise _wrong(problems)
    values = tuple((key, _plain(value)) for key, value in body.set.items())
    await call.services.runtime.ask(SETTINGS, ChangeSettings(values, tuple(body.unset)), call.context)
    return _cluster(call)


def _plain(value: Value) -> settings_kind.Value:
    if isinstance(value, float):
        return repr(value)
    return tuple(value) if isinstance(value, list) else value


def _cluster(call: Call) -> dict[str, Any]:
    with call.services.log.snapshot() as snapshot:
        found = settings(snapshot.view(SETTINGS))
    shown = {
        one.key: {"value": list(one.value) if isinstance(one.value, tuple) else one.value, "set_ms": one.set_ms}
        for one in found
    }
    return {"settings": shown, "keys": list(cluster_keys())}


def _wrong(problems: tuple[Problem, ...] | list[Problem]) -> ApiError:
    """Everything at once."""
    errors = [FieldError("configuration", one.name, one.reason) for one in problems]
    lines = "\n".join(map(str, problems))
    return ApiError(422, "refused", f"nothing was changed: {lines}", EXPLAIN, code=WRONG, errors=errors)


def _reloading(call: Call) -> Reloading:
    assert call.services is not None  # raises ApiError while there are none
    found = call.request.app[STATE].reloading
    assert found is not None
    return found
