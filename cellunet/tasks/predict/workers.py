"""Blocks of planes as tasks on the workers of a Dask cluster.

What a worker needs comes with its tasks: the step that it runs, and the paths of the
image, which it opens itself, and of a folder that all see. There lie the weights of the
model, and what workers make of blocks; a few borders go back, to be merged. A file in
the folder is a block that is done, so that a worker, a scheduler or a command that ends
takes no finished block with it.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import hashlib
import json
import logging
import os
import pkgutil
import re
import shutil
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cellunet import __version__
from cellunet.errors import (
    CellunetError,
    CheckpointError,
    ConfigError,
    DeviceError,
    one_line,
    optional,
)
from cellunet.io.files import write_atomically, writing
from cellunet.io.scratch import SETTING, SharedScratch
from cellunet.store import WEIGHTS_FILE, find_model
from cellunet.tasks.predict.blocks import Backend
from cellunet.tasks.predict.plane import PredictionStopped
from cellunet.tasks.predict.settings import AUTO, ENGINES, choose_engine, engine_for

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from types import ModuleType

    import numpy as np
    import numpy.typing as npt

    from cellunet.command_config import PredictConfig
    from cellunet.engine.runtimes import Engine
    from cellunet.io.source import Source
    from cellunet.store import Model

T = TypeVar("T")

R = TypeVar("R")

LOCAL = re.compile(r"local\[(\d+)\]")

ANSWER_S = 10.0
"""How long a scheduler may take to answer."""

WORKERS_S = 60.0
"""How long to wait for the first worker."""

POLL_S = 0.1
"""How often to ask whether to stop while workers are waited for."""

PAUSE_S = 0.01
"""The same while a block is waited for."""

CLOSE_S = 1.0
"""How long to wait for the other side when something is closed."""

AHEAD = 8
"""Tasks for each thread of a worker that are under way at once."""

FOLDER = ".blocks"
"""How the name of the folder ends in which finished blocks lie."""

IGNORE_SIGINT = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
"""Run by workers of this machine: Ctrl-C is for the command, which ends them."""


@dataclass(kw_only=True, unsafe_hash=True)
class ShippedEngine:
    """An engine that is loaded where it is first called, from weights that all see.

    What computes there must be what computes here, to the version, or labels would
    depend on which worker a block was given to.
    """

    name: str
    """Of the engine on the machine that asks."""
    any_window: bool
    """See `cellunet.engine.runtimes.Engine`."""
    weights: Path
    """The file of the model."""
    sha256: str
    """Of the model."""
    engine: str
    """A name in `cellunet.tasks.predict.settings.ENGINES`."""
    threads: int
    config: PredictConfig

    def __call__(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return class probabilities; see `cellunet.engine.runtimes.Engine`.

        Raises
        ------
        CellunetError
            If the engine is not there, or another.
        """
        with _loading:
            engine = _loaded(self)
        return engine(image)


_loading = threading.Lock()


@functools.lru_cache(maxsize=1)
def _loaded(shipped: ShippedEngine) -> Engine:
    model = find_model(str(shipped.weights))
    if model.sha256 != shipped.sha256:
        raise CheckpointError(
            f"{shipped.weights} is not the model that the command has: its SHA-256 is "
            f"{model.sha256}, not {shipped.sha256}.",
            hint="All workers must see this folder by the same path.",
        )
    engine = engine_for(model, shipped.config, shipped.engine, "cpu", shipped.threads)
    if engine.name != shipped.name:
        raise DeviceError(
            f"The engine is {engine.name}; the command has {shipped.name}.",
            hint="Labels would depend on which worker a block is given to: install the "
            "same version on all machines.",
        )
    return engine


@dataclass(frozen=True, kw_only=True)
class EngineOnWorkers:
    """What workers are to compute with.

    Parameters
    ----------
    model, config, engine
        As for `cellunet.tasks.predict.settings.settings_for`.
    threads
        Of the network on a worker; 0 for one.
    name, any_window
        Of the engine that is loaded here.
    """

    model: Model
    config: PredictConfig
    engine: str
    threads: int
    name: str
    any_window: bool

    def shipped_to(self, folder: Path) -> ShippedEngine:
        """Put the weights into a folder that all workers see; return the engine.

        Raises
        ------
        OutputError
            If they cannot be written.
        CheckpointError
            If they have been replaced meanwhile.
        """
        weights = folder / WEIGHTS_FILE
        with write_atomically(weights, SETTING) as temporary:
            temporary.write_bytes(self.model.weights.read_bytes())
        self.model.check_unchanged()
        return ShippedEngine(
            name=self.name,
            any_window=self.any_window,
            weights=weights,
            sha256=self.model.sha256,
            engine=choose_engine(self.engine, "cpu"),
            threads=self.threads or 1,
            config=self.config,
        )


def refuse_other_devices(engine: str, device: str) -> None:
    """Refuse what does not run on the processors of workers, with the same bits.

    Raises
    ------
    ConfigError
        If so.
    """
    on_cpu = [name for name, kind in ENGINES.items() if kind.only_cpu]
    if device not in (AUTO, "cpu") or engine not in (AUTO, *on_cpu):
        asked = (
            f"--device {device}" if engine in (AUTO, *on_cpu) else f"--engine {engine}"
        )
        raise ConfigError(
            f"{asked} does not go together with --dask, whose workers compute on CPUs.",
            hint=f"Engines for --dask: {', '.join(on_cpu)}.",
        )


class Cluster:
    """Applies functions to items on workers; the `Executor` of a cluster.

    Made by `connected`.

    Parameters
    ----------
    client
        Connected to the scheduler.
    address
        Of the scheduler, for messages.
    should_stop
        Asked while there is something to wait for.
    """

    def __init__(
        self,
        client: Any,  # noqa: ANN401
        address: str,
        should_stop: Callable[[], bool],
    ) -> None:
        self._client, self._address, self._should_stop = client, address, should_stop

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Generator[R]:
        """Yield ``function(item)`` for each item, in order; closed, it ends its tasks.

        Each task brings the function along, so that it depends on no other one: Dask
        gives tasks to workers that have what they depend on, be others idle or not.

        Raises
        ------
        PredictionStopped
            If the caller asks to stop.
        DeviceError
            If the scheduler is lost, or workers die of a task.
        CellunetError
            As `function` does, with the worker's address.
        """
        name = f"cellunet-{getattr(function, '__name__', 'network')}-{uuid.uuid4().hex}"
        shared = _Function(name, function)
        begun: deque[Any] = deque()
        threads = sum(self._client.nthreads().values())
        most = AHEAD * max(threads, 1)
        try:
            for number, item in enumerate(items):
                key = f"{name}-{number}"
                begun.append(
                    self._client.submit(
                        _call, shared, _Opaque(item), key=key, pure=False
                    )
                )
                if len(begun) >= most:
                    yield self._result(begun.popleft())
            while begun:
                yield self._result(begun.popleft())
        finally:
            # Nobody may be there any more to cancel them.
            with contextlib.suppress(Exception):
                self._client.cancel(list(begun), force=True)

    def _result(self, future: Any) -> Any:  # noqa: ANN401
        """Return the result of a task, which may be done again for it."""
        while not self._should_stop():
            if future.done():
                break
            time.sleep(PAUSE_S)
        else:
            raise PredictionStopped
        if future.status == "error":
            raise _explained(future.exception())
        try:
            # Without a time limit, which would end the fetching halfway.
            return future.result()
        except (OSError, concurrent.futures.CancelledError) as error:
            # What the task raised is seen above.
            raise self._lost() from error

    def _lost(self) -> DeviceError:
        return DeviceError(
            f"The scheduler at {self._address} was lost.",
            hint="Start it and its workers again. Finished blocks are kept; the same "
            "command continues.",
        )

    @contextlib.contextmanager
    def backend(
        self, engine: EngineOnWorkers, source: Source, folder: Path
    ) -> Iterator[Backend]:
        """Yield where the blocks of an image are worked on.

        Parameters
        ----------
        engine
            What computes.
        source
            The image, by a path that all workers see.
        folder
            Where finished blocks lie. It stays after an error, for the next run, and is
            removed otherwise.
        """
        with writing(folder, SETTING):
            folder.mkdir(exist_ok=True)
        shipped = engine.shipped_to(folder)
        yield Backend(shipped, source, SharedScratch(folder), self)
        shutil.rmtree(folder, ignore_errors=True)


class _Opaque:
    """An item as it is, in which Dask looks for no tasks."""

    def __init__(self, value: Any) -> None:  # noqa: ANN401
        self.value = value


@dataclass(frozen=True)
class _Function:
    """A function that comes with each of its items, and is told by its name."""

    name: str
    call: Callable[[Any], Any] = field(compare=False)


@functools.lru_cache(maxsize=2)
def _first(function: _Function) -> _Function:
    """Return the copy of a function that came first: it has a file open."""
    return function


def _call(function: _Function, item: _Opaque) -> Any:  # noqa: ANN401
    """Apply a function on a worker; errors on purpose name the worker."""
    from distributed import get_worker

    try:
        return _first(function).call(item.value)
    except CellunetError as error:
        where = f"On worker {get_worker().address}: {error.message}"
        raise type(error)(where, hint=error.hint) from error


def _explained(error: BaseException) -> BaseException:
    """Return what to raise for an error that came from a worker."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        told: BaseException = DeviceError(
            "Workers died again and again of one block, the last "
            f"{error.last_worker.address}.",
            hint="A worker needs about 700 MB for each of its threads. Finished blocks "
            "are kept; the same command continues.",
        )
    elif isinstance(error, ModuleNotFoundError):
        told = _unfit(f"A worker lacks a package ({error})")
    else:
        return error
    told.__cause__ = error
    return told


def _unfit(what: str) -> DeviceError:
    return DeviceError(
        f"{what}; this is cellunet {__version__}.",
        hint="Install the same version on the machine of every worker: pip install "
        f'"cellunet-torch[dask]=={__version__}".',
    )


@contextlib.contextmanager
def connected(where: str, should_stop: Callable[[], bool]) -> Iterator[Cluster | None]:
    """Yield a cluster whose workers can be given blocks, and let go of it.

    None if the caller asks to stop.

    Parameters
    ----------
    where
        Address of a scheduler, or ``local[N]``: N processes of this machine.
    should_stop
        Asked while there is something to wait for.

    Raises
    ------
    ConfigError
        If the extra is not installed.
    DeviceError
        If there is no scheduler or no worker, or a worker has another cellunet or none.
    """
    distributed = optional("distributed", "dask", "--dask")
    cluster = None
    with _quietly(), contextlib.ExitStack() as stack:
        with contextlib.suppress(PredictionStopped):
            cluster = _cluster(distributed, where, stack, should_stop)
        yield cluster


def _cluster(
    distributed: ModuleType,
    where: str,
    stack: contextlib.ExitStack,
    should_stop: Callable[[], bool],
) -> Cluster:
    """Return a cluster whose workers are there and checked, closed by `stack`."""
    found, count, scheduler = LOCAL.fullmatch(where), 1, where
    if found:
        count = int(found[1])
        here = stack.enter_context(_workers_here(distributed, count))
        scheduler = here.scheduler_address
    client = stack.enter_context(_client(distributed, scheduler, should_stop))
    _wait_for_workers(client, count, where, should_stop)
    _check_workers(client)
    return Cluster(client, where, should_stop)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep Dask from logging what is told in our words, and from setting variables."""
    logger, variables = logging.getLogger("distributed"), set(os.environ)
    # Loggers below it have levels of their own.
    before, logger.handlers = logger.handlers, [logging.NullHandler()]
    propagated, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before, propagated
        for name in set(os.environ) - variables:
            if name.endswith("_NUM_THREADS"):
                del os.environ[name]


@contextlib.contextmanager
def _workers_here(distributed: ModuleType, count: int) -> Iterator[Any]:
    """Yield a cluster of processes of this machine, which are being started."""
    import psutil

    cluster = distributed.LocalCluster(
        n_workers=0,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        # Its web server, which nobody asked for, would be on port 8787 for all to see,
        # and warn where that is taken.
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
        silence_logs=logging.CRITICAL + 1,
        memory_limit=int(distributed.system.MEMORY_LIMIT // count),
        preload=[IGNORE_SIGINT],
    )
    try:
        cluster.scale(count)
        yield cluster
    finally:
        # What they were at is not wanted, and asked to end they would finish it first.
        for nanny in cluster.workers.values():
            nanny.auto_restart = False
            with contextlib.suppress(psutil.NoSuchProcess, ValueError):
                psutil.Process(nanny.pid).kill()
        with contextlib.suppress(TimeoutError):
            cluster.close(timeout=CLOSE_S)


@contextlib.contextmanager
def _client(
    distributed: ModuleType, address: str, should_stop: Callable[[], bool]
) -> Iterator[Any]:
    """Yield a client of a scheduler."""
    client = None
    for _ in _until(ANSWER_S, should_stop):
        try:
            client = distributed.Client(address, timeout=1, set_as_default=False)
            break
        except (OSError, ValueError) as error:
            reason = error
    if client is None:
        raise DeviceError(
            f"No Dask scheduler answers at {address} ({one_line(reason)}).",
            hint="Start one with: dask scheduler, and workers with: dask worker "
            'ADDRESS --nthreads 1; or use --dask "local[2]".',
        )
    try:
        yield client
    finally:
        with contextlib.suppress(TimeoutError):
            client.close(timeout=CLOSE_S)


def _until(seconds: float, should_stop: Callable[[], bool]) -> Iterator[None]:
    """Yield now and again, until so much time is over.

    Raises
    ------
    PredictionStopped
        If the caller asks to stop.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if should_stop():
            raise PredictionStopped
        yield
        time.sleep(POLL_S)


def _wait_for_workers(
    client: Any,  # noqa: ANN401
    count: int,
    where: str,
    should_stop: Callable[[], bool],
) -> None:
    for _ in _until(WORKERS_S, should_stop):
        if len(client.nthreads()) >= count:
            return
    there = len(client.nthreads())
    raise DeviceError(
        f"{there} of {count} workers of {where} are there after {WORKERS_S:.0f} s.",
        hint="Start workers with: dask worker ADDRESS --nthreads 1.",
    )


def _check_workers(client: Any) -> None:  # noqa: ANN401
    """Refuse workers with another cellunet than this, or none.

    Asked by a function of Python itself, which a worker without cellunet has too.
    """
    found = client.run(pkgutil.resolve_name, "cellunet:__version__", on_error="return")
    wrong = {name: one for name, one in found.items() if one != __version__}
    for name, one in wrong.items():
        if isinstance(one, str):
            raise _unfit(f"Worker {name} has cellunet {one}")
        raise _unfit(f"Worker {name} has no cellunet ({one_line(one)})")


def folder_of(labels: Path, provenance: dict[str, Any], parent: Path) -> Path:
    """Return where finished blocks of an image lie; others of the image are removed.

    Parameters
    ----------
    labels
        The label image to be.
    provenance
        All that its blocks depend on.
    parent
        A folder that all workers see.
    """
    own = _digest(os.path.abspath(labels))  # noqa: PTH100 - Path.resolve follows links
    name = (
        f".{labels.name[:40]}.{own}-{_digest(json.dumps(provenance, sort_keys=True))}"
    )
    folder = Path(os.path.abspath(parent)) / f"{name}{FOLDER}"  # noqa: PTH100
    for other in folder.parent.glob(f".*.{own}-*{FOLDER}"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
