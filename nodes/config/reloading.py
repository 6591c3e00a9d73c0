"""A running node is told anew what it can be: on SIGHUP, by the admin API, when its file or the cell's settings change.

All of it is checked before any of it is done; what can fail while it is done (a port that is taken) is done first and
undone on failure; the rest happens between two steps of the event loop. So there is no moment at which half of a
configuration holds. What a node obeys only when it starts stays as it was, and is named. What was changed goes into the
log, with the values before and after and never a secret. See docs/ADR/0036.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from actors.runtime import Context
from actors.settings import SETTINGS, NoteReload, settings
from eventlog.errors import OutcomeUnknown, Rejected
from eventlog.record import By, stream_id
from nodes.config import files as config_files
from nodes.config import sources as config_sources
from nodes.config.cluster import with_cluster_settings
from nodes.config.node import NodeConfig
from nodes.config.report import Setting, changes, keys
from nodes.config.report import settings as settings_of
from nodes.config.sources import ConfigError, Loaded
from nodes.config.words import section_model
from nodes.systemd import Notifier
from nodes.tls.chain import BadCertificate

if TYPE_CHECKING:
    from eventlog.log import EventLog
    from nodes.metrics import Metrics
    from nodes.services import Logger, Services
    from nodes.state import NodeState
    from nodes.tls.files import TlsFiles

NOTE_AGAIN_S = 5.0
NOTE_TRIES = 100


class NotReloaded(Exception):
    """Nothing was changed; the text says why, and `hint` what to do where that is known."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Source(Protocol):
    """Where a node's configuration is read, and read again."""

    def read(self) -> Loaded:
        """Raises ConfigError."""
        ...


class FileSource(NamedTuple):
    """The file, the environment and the flags that the node was started with."""

    path: Path
    environ: Mapping[str, str]
    overrides: Sequence[str] = ()

    def read(self) -> Loaded:
        """Raises ConfigError, also for files that it names and that can not be used."""
        loaded = config_sources.read(self.path, self.environ, self.overrides)
        config_files.check_files(loaded.config)
        return loaded


class Reloaded(NamedTuple):
    """`changes`: key, before, after. `restart`: keys that differ and hold only after a restart."""

    changes: tuple[tuple[str, str, str], ...]
    restart: tuple[str, ...]


class Opening(Protocol):
    """What may fail while a configuration is taken up: opened first, then kept or given up."""

    async def open(self, before: NodeConfig, after: NodeConfig) -> None:
        """Raises OSError; nothing is changed for who is connected."""
        ...

    def keep(self) -> None:
        """It holds from now on."""
        ...

    async def give_up(self) -> None:
        """As if it had not been opened."""
        ...


class Reloading:
    """Event loop only. `parts` are told of each new configuration in order; they do not wait and do not fail."""

    def __init__(
        self,
        state: NodeState,
        services: Services,
        loaded: Loaded,
        source: Source | None,
        tls_files: TlsFiles,
        opening: Opening,
        parts: Sequence[Callable[[NodeConfig], None]],
        logger: Logger,
    ) -> None:
        self._state = state
        self._services = services
        self._loaded = loaded  # as the file, the environment and the flags have it
        self._source = source
        self._tls_files = tls_files
        self._opening = opening
        self._parts = parts
        self._logger = logger
        self._metrics: Metrics = state.metrics
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsubscribe = services.log.subscribe(SETTINGS, lambda _: self._spawn(self._heed_cluster()))
        self._spawn(self._heed_cluster())  # what was folded while the node was made
        self.restart: tuple[str, ...] = ()

    async def stop(self) -> None:
        """Nothing is reloaded any more."""
        self._unsubscribe()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def settings(self) -> list[Setting]:
        """Every key as it holds, and where it came from."""
        found = settings_of(self._loaded._replace(config=self._state.config))
        cluster = set(cluster_settings(self._services.log))
        return [one._replace(kind="cluster", source="set for the whole cell") if one.name in cluster else one
                for one in found]  # fmt: skip

    async def reload(self, context: Context | None = None, why: str = "") -> Reloaded:
        """Reads the configuration again. Raises NotReloaded, ConfigError: then nothing is as it was not before."""
        if self._source is None:
            raise NotReloaded("this node was started without a file")
        async with self._turn:
            try:
                loaded = await asyncio.to_thread(self._source.read)
                done = await self._take_up(loaded, self._tls_files.reload)
            except (ConfigError, NotReloaded) as error:
                self._metrics.config_reloads.labels("refused").inc()
                hint = {"hint": error.hint} if isinstance(error, NotReloaded) and error.hint else {}
                self._logger.error(
                    "not reloaded: everything is as it was",
                    code="config_not_reloaded",
                    why=why,
                    error=str(error),
                    **hint,
                )
                raise
            self._tell(done, why)
        if done.changes or done.restart:
            name = self._state.config.node.name
            by = By("node", stream_id("node", name), why or "reload")
            self._spawn(self._note(done, context or Context(by, why or "reload")))
        return done

    def reload_soon(self, why: str) -> None:
        """The same, by itself; a failure is logged."""
        self._spawn(self._try(why))

    # -- parts

    async def _try(self, why: str) -> None:
        with contextlib.suppress(ConfigError, NotReloaded):  # it was logged
            await self.reload(why=why)
        Notifier().tell(ready="1")

    async def _heed_cluster(self) -> None:
        """What is set for the cell has changed."""
        async with self._turn:
            try:
                done = await self._take_up(self._loaded)
            except NotReloaded as error:
                self._logger.error(
                    "what is set for the cell can not hold here", code="config_not_reloaded", error=str(error)
                )
                return
            if done.changes:
                self._tell(done, "set for the whole cell")

    async def _take_up(self, loaded: Loaded, besides: Callable[[], None] = lambda: None) -> Reloaded:
        """`besides` is done with it, if all else can be. Raises NotReloaded."""
        before = self._state.config
        wanted, wrong = with_cluster_settings(loaded.config, cluster_settings(self._services.log))
        for problem in wrong:
            self._logger.error(
                "a setting of the cell can not hold here", code="config_not_reloaded", problem=str(problem)
            )
        after, restart = _with_reloadable(before, wanted)
        try:
            await self._opening.open(before, after)
            besides()
        except (OSError, BadCertificate) as error:
            await self._opening.give_up()
            raise NotReloaded(str(error), getattr(error, "hint", "")) from None
        self._swap(before, after)
        self._opening.keep()
        self._loaded, self.restart = loaded, restart
        self._metrics.config_restart_due.set(len(restart))
        return Reloaded(tuple(changes(before, after)), restart)

    def _swap(self, before: NodeConfig, after: NodeConfig) -> None:
        """No step of the event loop lies between: nobody sees half of it."""
        try:
            self._tell_parts(after)
        except BaseException:
            self._tell_parts(before)
            raise

    def _tell_parts(self, config: NodeConfig) -> None:
        self._state.config = self._services.config = config
        for part in self._parts:
            part(config)

    def _tell(self, done: Reloaded, why: str) -> None:
        self._metrics.config_reloads.labels("changed" if done.changes else "unchanged").inc()
        shown = {key: f"{before} -> {after}" for key, before, after in done.changes}
        self._logger.info("reloaded", why=why, changes=shown)
        if done.restart:
            self._logger.warning("what was changed holds after a restart only", keys=", ".join(done.restart))

    async def _note(self, done: Reloaded, context: Context) -> None:
        """Into the log, when there is a majority to take it."""
        command = NoteReload(self._state.config.node.name, done.changes, done.restart)
        for _ in range(NOTE_TRIES):
            try:
                await self._services.runtime.ask(SETTINGS, command, context)
                return
            except (Rejected, OutcomeUnknown):
                await asyncio.sleep(NOTE_AGAIN_S)
        self._logger.error("what was reloaded could not be noted in the log")

    def _spawn(self, coroutine: asyncio._CoroutineLike[None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def cluster_settings(log: EventLog) -> dict[str, object]:
    """What is set for the whole cell, as far as this node has folded."""
    with log.snapshot() as snapshot:
        return {one.key: one.value for one in settings(snapshot.view(SETTINGS))}


def _with_reloadable(running: NodeConfig, wanted: NodeConfig) -> tuple[NodeConfig, tuple[str, ...]]:
    """The running configuration with what of `wanted` can be taken up, and the keys that can not."""
    updates: dict[str, dict[str, object]] = {}
    restart = []
    for section, key in keys():
        value = getattr(getattr(wanted, section), key)
        if value == getattr(getattr(running, section), key):
            continue
        if section_model(section).reloads(key):
            updates.setdefault(section, {})[key] = value
        else:
            restart.append(f"{section}.{key}")
    sections = {name: getattr(running, name).model_copy(update=update) for name, update in updates.items()}
    return running.model_copy(update=sections), tuple(restart)
