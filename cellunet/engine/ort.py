"""The onnxruntime engine: the CPU, without torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellunet.engine.onnx_check import check_model
from cellunet.engine.onnx_graph import INPUT, OUTPUT
from cellunet.errors import CheckpointError, DeviceError

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    import numpy.typing as npt

    from cellunet.config import UNetConfig


class OnnxRuntimeEngine:
    """Runs a network that `cellunet.engine.onnx_graph.build` wrote, on the CPU.

    The result depends neither on the number of threads nor on what else is in a batch.

    Parameters
    ----------
    model
        The model, or the file that holds it. It is checked before it is used.
    threads
        Threads to compute with; 0 for as many as this process may use cores.

    Attributes
    ----------
    name
        Runtime, version and device, for the provenance of results.
    config
        Shape of the network.
    metadata
        What was stored in the model, by key.

    Raises
    ------
    CheckpointError
        If the file cannot be read or is not such a model.
    DeviceError
        If onnxruntime cannot be loaded.
    """

    def __init__(self, model: bytes | Path, *, threads: int = 0) -> None:
        self._source = str(model) if isinstance(model, Path) else "The model"
        content, self.config = _checked(model, self._source)
        runtime = _runtime()
        self.name = f"onnxruntime {runtime.__version__} cpu"
        self._errors = _errors(runtime)
        try:
            self._session = runtime.InferenceSession(
                content,
                _options(runtime, threads or usable_cores()),
                providers=["CPUExecutionProvider"],
            )
        except self._errors as error:
            raise CheckpointError(
                f"{self._source} cannot be used: {_one_line(error)}",
                hint="Train the model again, or: --engine torch.",
            ) from error
        self.metadata: dict[str, str] = dict(
            self._session.get_modelmeta().custom_metadata_map
        )

    def __call__(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return class probabilities, NKYX float32, of NCYX float32 windows.

        Raises
        ------
        CheckpointError
            If the image does not fit the network, or the runtime fails.
        """
        channels, stride = self.config.in_channels, self.config.stride_px
        fits = image.ndim == 4 and image.shape[1] == channels
        if not fits or image.shape[2] % stride or image.shape[3] % stride:
            raise CheckpointError(
                f"{self._source} takes NCYX images of {channels} channels and sides of "
                f"multiples of {stride} px; this one has shape {image.shape}."
            )
        try:
            result: npt.NDArray[np.float32] = self._session.run(
                [OUTPUT], {INPUT: image}
            )[0]
        except self._errors as error:
            size = " x ".join(map(str, image.shape))
            raise CheckpointError(
                f"{self._source} failed on an image of {size}: {_one_line(error)}"
            ) from error
        return result


def usable_cores() -> int:
    """Return how many cores this process may use, at least 1."""
    # Not on Windows and macOS.
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _checked(model: bytes | Path, source: str) -> tuple[bytes, UNetConfig]:
    try:
        content = model.read_bytes() if isinstance(model, Path) else model
        return content, check_model(content)
    except OSError as error:
        raise CheckpointError(
            f"{source} cannot be read: {error.strerror}.",
            hint="Train the model again, or: --engine torch.",
        ) from error
    except CheckpointError as error:
        raise CheckpointError(
            f"{source} is no model that this cellunet writes: {error.message}",
            hint="Train the model again, or: --engine torch.",
        ) from error


def _runtime() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(
            f"onnxruntime cannot be loaded: {_one_line(error)}",
            hint="Try: --engine torch.",
        ) from error
    # Windows only; a no-op elsewhere.
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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
