"""The openvino engine: Intel's and AMD's processors, in float32 or eight bits."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.engine.cores import threads_for
from cellunet.engine.onnx_file import check_fits, failed
from cellunet.engine.onnx_graph import INPUT
from cellunet.errors import CheckpointError, one_line
from cellunet.imaging.optional import optional

if TYPE_CHECKING:
    from types import ModuleType

    import numpy.typing as npt

    from cellunet.engine.onnx_file import OnnxFile

EXTRA = "openvino"
TELEMETRY = "openvino_telemetry"
DIGITS = 8
"""As many hexadecimal digits of its SHA-256 tell an int8 twin from another."""


class OpenVinoEngine:
    """Runs a network that cellunet wrote, or its int8 twin, on the CPU.

    The result does not depend on what else is in a batch: images are computed one by
    one, which takes no longer.

    Parameters
    ----------
    model
        The model; `cellunet.engine.onnx_file.open_onnx` checked it.
    threads
        Threads to compute with; 0 for as many as this process may use cores.
    int8
        Whether it is an int8 twin: said in the name, with the twin's own SHA-256,
        because a model may be calibrated anew.

    Attributes
    ----------
    name
        Runtime, version and device, for the provenance of results.
    config
        Shape of the network.

    Raises
    ------
    ConfigError
        If openvino is not installed.
    CheckpointError
        If openvino cannot use the model.
    """

    def __init__(
        self, model: OnnxFile, *, threads: int = 0, int8: bool = False
    ) -> None:
        runtime = load_runtime()
        self.config = model.config
        self._source = model.source
        self._tensor = runtime.Tensor
        # As short as packages are numbered: 2026.4.1-22982-...
        self.name = f"openvino {runtime.__version__.partition('-')[0]} cpu"
        if int8:
            digest = hashlib.sha256(model.content).hexdigest()
            self.name += f" int8 {digest[:DIGITS]}"
        try:
            self._request = _compile(runtime, model.content, threads_for(threads))
        except RuntimeError as error:
            raise CheckpointError(
                f"{self._source} cannot be used by openvino: {one_line(error)}",
                hint="Try: --engine onnxruntime.",
            ) from error
        # A request holds one image at a time.
        self._lock = threading.Lock()

    def __call__(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return class probabilities, NKYX float32, of NCYX float32 windows.

        Raises
        ------
        CheckpointError
            If the image does not fit the network, or the runtime fails.
        """
        check_fits(image, self.config, self._source)
        count, _, height, width = image.shape
        result = np.empty((count, self.config.classes, height, width), np.float32)
        try:
            for i in range(count):
                window = self._tensor(
                    np.ascontiguousarray(image[i : i + 1]), shared_memory=True
                )
                with self._lock:
                    self._request.infer({INPUT: window})
                    result[i] = self._request.get_output_tensor(0).data[0]
        except (RuntimeError, MemoryError) as error:
            raise failed(image, self._source, error) from error
        return result


def installed() -> bool:
    """Return whether openvino is there, without importing it."""
    return importlib.util.find_spec("openvino") is not None


def load_runtime() -> ModuleType:
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
    }
    return core.compile_model(
        core.read_model(content), "CPU", settings
    ).create_infer_request()
