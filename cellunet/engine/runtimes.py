"""Run a network: the interface of engines, onnxruntime and openvino."""

from __future__ import annotations

import abc
import contextlib
import functools
import hashlib
import importlib.util
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cellunet.engine.onnx import INPUT, OUTPUT
from cellunet.engine.threads import threads_for
from cellunet.errors import CheckpointError, DeviceError, one_line, optional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    import numpy.typing as npt

    from cellunet.config import UNetConfig
    from cellunet.imaging.blocks import Block, Plan


class Engine(Protocol):
    """Runs a network: float32 images in, class probabilities out."""

    name: str
    """As it stands in the provenance of results, device and version included."""
    any_window: bool
    """Whether it says the same of a pixel, to the last bit, in windows of any size that
    hold what the network sees around it."""

    def __call__(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return class probabilities, NKYX float32, of NCYX float32 windows."""


class FlippingEngine:
    """Averages what an engine says of an image and of its three mirror images.

    A window is mirrored as a whole and its sides are multiples of the network's stride,
    so pixels are pooled in the same groups, and blocks compute what one pass over the
    whole image computes.

    Parameters
    ----------
    engine
        Runs the network, four times for each call.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = f"{engine.name}, 4 flips"
        self.any_window = engine.any_window

    def __call__(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return class probabilities, NKYX float32, of NCYX float32 windows."""
        total = self._engine(image).astype(np.float32)
        for axes in ((2,), (3,), (2, 3)):
            mirrored = np.ascontiguousarray(np.flip(image, axes))
            total += np.flip(self._engine(mirrored), axes)
        total *= np.float32(0.25)
        return total


def window_of(
    block: Block,
    shape: tuple[int, int],
    read: Callable[[int, int, int, int], npt.NDArray[np.float32]],
) -> npt.NDArray[np.float32]:
    """Return the network's input for a block, 1CYX float32.

    Parameters
    ----------
    block
        The block to compute.
    shape
        Height and width of the plane that the network sees.
    read
        ``read(y0, y1, x0, x1)`` returns the network's input there, CYX float32. It is
        asked for pixels of the plane only; a window that reaches beyond is mirrored.
    """
    y, x = block.y, block.x
    height, width = shape
    window = read(y.start, min(y.stop, height), x.start, min(x.stop, width))
    short = (y.stop - y.start - window.shape[1], x.stop - x.start - window.shape[2])
    if any(short):
        window = np.pad(window, ((0, 0), (0, short[0]), (0, short[1])), "symmetric")
    return np.ascontiguousarray(window[np.newaxis])


def plane_probabilities(
    engine: Engine, image: npt.NDArray[np.float32], plan: Plan, classes: int
) -> npt.NDArray[np.float32]:
    """Return the class probabilities of a plane held in memory.

    Parameters
    ----------
    engine
        Runs the network.
    image
        The network's input, CYX float32.
    plan
        Blocks of the plane.
    classes
        Number of classes, K.

    Returns
    -------
    ndarray
        KYX float32.
    """
    whole = np.empty((classes, *plan.shape), np.float32)
    for block in plan.blocks:
        window = window_of(
            block, plan.shape, lambda y0, y1, x0, x1: image[:, y0:y1, x0:x1]
        )
        whole[:, *block.core] = engine(window)[0][:, *block.own]
    return whole


NO_TELEMETRY = ("ORT_DISABLE_TELEMETRY", "1")
"""Variable and value that keep onnxruntime from reporting its use."""


class _GraphEngine(abc.ABC):
    """What the engines have in common that run a graph of `cellunet.engine.onnx`."""

    any_window = True
    _errors: tuple[type[Exception], ...] = (RuntimeError, MemoryError)
    """What its runtime raises."""

    def __init__(self, config: UNetConfig, source: str) -> None:
        self._config, self._source = config, source

    def __call__(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return class probabilities, NKYX float32, of NCYX float32 windows.

        Raises
        ------
        CheckpointError
            If the image does not fit the network, or the runtime fails.
        """
        channels, stride = self._config.in_channels, self._config.stride_px
        fits = image.ndim == 4 and image.shape[1] == channels
        if not fits or image.shape[2] % stride or image.shape[3] % stride:
            raise CheckpointError(
                f"{self._source} takes NCYX images of {channels} channels and sides of "
                f"multiples of {stride} px; this one has shape {image.shape}."
            )
        try:
            return self._run(image)
        except self._errors as error:
            size = " x ".join(map(str, image.shape))
            raise CheckpointError(
                f"{self._source} failed on an image of {size}: {one_line(error)}"
            ) from error

    @abc.abstractmethod
    def _run(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return class probabilities of an image that fits the network."""


class OnnxRuntimeEngine(_GraphEngine):
    """Runs a network that `cellunet.engine.onnx.build` wrote, on the CPU.

    The result depends neither on the number of threads nor on what else is in a batch.

    Parameters
    ----------
    graph
        The model, written by cellunet.
    config
        Shape of its network.
    source
        Where its weights come from, for messages.
    threads
        Threads to compute with; 0 for as many as this process may use cores.

    Attributes
    ----------
    name
        Runtime, version and device, for the provenance of results.

    Raises
    ------
    CheckpointError
        If onnxruntime cannot use the model.
    DeviceError
        If onnxruntime cannot be loaded.
    """

    def __init__(
        self, graph: bytes, config: UNetConfig, *, source: str, threads: int = 0
    ) -> None:
        super().__init__(config, source)
        runtime = load_onnxruntime()
        self.name = f"onnxruntime {runtime.__version__} cpu"
        self._errors = _errors(runtime)
        try:
            self._session = open_session(graph, threads)
        except self._errors as error:
            raise CheckpointError(
                f"{self._source} cannot be used: {one_line(error)}",
                hint="Train the model again, or: --engine torch.",
            ) from error

    def _run(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        result: npt.NDArray[np.float32]
        (result,) = self._session.run([OUTPUT], {INPUT: image})
        return result


def open_session(content: bytes, threads: int) -> Any:  # noqa: ANN401
    """Return a session of onnxruntime on the CPU.

    Parameters
    ----------
    content
        The model, written by cellunet.
    threads
        Threads to compute with; 0 for as many as this process may use cores.
    """
    runtime = load_onnxruntime()
    return runtime.InferenceSession(
        content,
        _options(runtime, threads_for(threads)),
        providers=["CPUExecutionProvider"],
    )


def load_onnxruntime() -> ModuleType:
    """Return onnxruntime, kept from telling its makers that it is used.

    On Linux it looks up a host and writes an identifier of the machine to the user's
    cache folder while it is imported (1.32.0), before ``disable_telemetry_events`` can
    be called. A variable that is set before the import prevents both, so nothing else
    imports it.

    Raises
    ------
    DeviceError
        If it cannot be loaded.
    """
    os.environ.setdefault(*NO_TELEMETRY)
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(
            f"onnxruntime cannot be loaded: {one_line(error)}",
            hint="Try: --engine torch.",
        ) from error
    # On Windows events go to the system's own log, whatever the variable says.
    onnxruntime.disable_telemetry_events()
    return onnxruntime  # type: ignore[no-any-return]


def _options(runtime: ModuleType, threads: int) -> Any:  # noqa: ANN401
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    # Threads that wait in a loop gain nothing measurable here, the operators are large,
    # and take a tenth or more from whatever else runs, decoding included.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # One buffer planned ahead is no faster and takes half as much memory again (496
    # against 344 MB at 1024 x 1024). The arena stays on, as is the default: without it
    # a call takes a tenth (520 x 696) to a third (1024 x 1024) longer.
    options.enable_mem_pattern = False
    # 4 is fatal: errors are raised, they need not stand on standard error as well.
    options.log_severity_level = 4
    return options


def _errors(runtime: ModuleType) -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises; its exceptions have no base of their own."""
    native = runtime.capi.onnxruntime_pybind11_state
    own = [
        value
        for value in vars(native).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    return (*own, RuntimeError, MemoryError)


EXTRA = "openvino"

TELEMETRY = "openvino_telemetry"

DIGITS = 8
"""As many hexadecimal digits of its SHA-256 tell int8 graphs apart."""


class OpenVinoEngine(_GraphEngine):
    """Runs a network that `cellunet.engine.onnx` wrote, on the CPU.

    The result does not depend on what else is in a batch: images are computed one by
    one, which takes no longer.

    Parameters
    ----------
    graph, config, source, threads
        As for `OnnxRuntimeEngine`.
    int8
        Whether it computes in eight bits: said in the name, with the beginning of the
        graph's SHA-256, because a model may be calibrated anew.

    Attributes
    ----------
    name
        Runtime, version and device, for the provenance of results.

    Raises
    ------
    ConfigError
        If openvino is not installed.
    CheckpointError
        If openvino cannot use the model.
    """

    def __init__(
        self,
        graph: bytes,
        config: UNetConfig,
        *,
        source: str,
        threads: int = 0,
        int8: bool = False,
    ) -> None:
        super().__init__(config, source)
        runtime = load_openvino()
        self._tensor = runtime.Tensor
        # As short as packages are numbered: 2026.4.1-22982-...
        self.name = f"openvino {runtime.__version__.partition('-')[0]} cpu"
        if int8:
            self.name += f" int8 {hashlib.sha256(graph).hexdigest()[:DIGITS]}"
        own = threads_for(threads)
        self._compile = functools.partial(_compile, runtime, graph, own)
        try:
            self._free = [self._compile()]
        except RuntimeError as error:
            raise CheckpointError(
                f"{self._source} cannot be used by openvino: {one_line(error)}",
                hint="Try: --engine onnxruntime.",
            ) from error
        # Callers on one thread each are side by side; several threads are for one.
        self._turn = threading.Lock() if own > 1 else contextlib.nullcontext()

    def _run(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        count, _, height, width = image.shape
        result = np.empty((count, self._config.classes, height, width), np.float32)
        with self._request() as request:
            for i in range(count):
                window = self._tensor(
                    np.ascontiguousarray(image[i : i + 1]), shared_memory=True
                )
                request.infer({INPUT: window})
                result[i] = request.get_output_tensor(0).data[0]
        return result

    @contextlib.contextmanager
    def _request(self) -> Iterator[Any]:
        """Yield a request that nobody else uses: it holds one image at a time."""
        with self._turn:
            try:
                request = self._free.pop()
            except IndexError:
                request = self._compile()
            try:
                yield request
            finally:
                self._free.append(request)


def installed() -> bool:
    """Return whether openvino is there, without importing it."""
    return importlib.util.find_spec("openvino") is not None


def load_openvino() -> ModuleType:
    """Return openvino, kept from telling its makers that it is used.

    Importing it sends an event over the network if it finds the package that does so,
    which comes with it; while that cannot be imported it takes a stand-in of its own
    that does nothing.

    Raises
    ------
    ConfigError
        If it is not installed, with the line that installs it.
    """
    hidden = TELEMETRY not in sys.modules
    if hidden:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    try:
        return optional("openvino", EXTRA, "This engine")
    finally:
        if hidden:
            del sys.modules[TELEMETRY]


@functools.cache
def _core(runtime: ModuleType) -> Any:  # noqa: ANN401
    """Return the one core of this process, which is never let go of.

    Each gives the main thread a stack for signals of its own; when two go in the order
    in which they came, the second gives back the stack that the first one has freed,
    and the next signal, Ctrl-C for one, ends the process (2026.4.1).
    """
    return runtime.Core()


def _compile(runtime: ModuleType, content: bytes, threads: int) -> Any:  # noqa: ANN401
    """Return a request that runs a model."""
    core = _core(runtime)
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        # All threads on one image. "Throughput" would give each image to one thread,
        # which gains only where several are asked for at once.
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        # On processors that multiply bfloat16 it would otherwise be used, unasked.
        "INFERENCE_PRECISION_HINT": "f32",
        # Pinned threads of several processes would crowd on the same cores.
        "ENABLE_CPU_PINNING": False,
        # What is prepared for a shape of window is kept for the next one of that shape:
        # of 5000 by default, which for images of many sizes is memory without end.
        "CPU_RUNTIME_CACHE_CAPACITY": 32,
    }
    return core.compile_model(
        core.read_model(content), "CPU", settings
    ).create_infer_request()
