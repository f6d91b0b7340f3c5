"""The onnxruntime engine: the CPU, without torch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cellunet.engine.cores import threads_for
from cellunet.engine.onnx_file import check_fits, failed, open_onnx
from cellunet.engine.onnx_graph import INPUT, OUTPUT
from cellunet.errors import CheckpointError, DeviceError, one_line

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    import numpy as np
    import numpy.typing as npt

NO_TELEMETRY = ("ORT_DISABLE_TELEMETRY", "1")
"""Variable and value that keep onnxruntime from reporting its use."""


class OnnxRuntimeEngine:
    """Runs a network that `cellunet.engine.onnx_graph.build` wrote, on the CPU.

    The result depends neither on the number of threads nor on what else is in a batch.

    Parameters
    ----------
    model
        The model, or the file that holds it. It is checked before it is used.
    source
        Where bytes come from, for messages.
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

    def __init__(
        self, model: bytes | Path, *, source: str = "", threads: int = 0
    ) -> None:
        opened = open_onnx(model, source=source)
        self.config, self.metadata = opened.config, opened.metadata
        self._source = opened.source
        runtime = load_runtime()
        self.name = f"onnxruntime {runtime.__version__} cpu"
        self._errors = _errors(runtime)
        try:
            self._session = open_session(opened.content, threads)
        except self._errors as error:
            raise CheckpointError(
                f"{self._source} cannot be used: {one_line(error)}",
                hint="Train the model again, or: --engine torch.",
            ) from error

    def __call__(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return class probabilities, NKYX float32, of NCYX float32 windows.

        Raises
        ------
        CheckpointError
            If the image does not fit the network, or the runtime fails.
        """
        check_fits(image, self.config, self._source)
        try:
            result: npt.NDArray[np.float32] = self._session.run(
                [OUTPUT], {INPUT: image}
            )[0]
        except self._errors as error:
            raise failed(image, self._source, error) from error
        return result


def open_session(content: bytes, threads: int) -> Any:  # noqa: ANN401
    """Return a session of onnxruntime on the CPU.

    Parameters
    ----------
    content
        The model; checked before, or written by cellunet itself.
    threads
        Threads to compute with; 0 for as many as this process may use cores.
    """
    runtime = load_runtime()
    return runtime.InferenceSession(
        content,
        _options(runtime, threads_for(threads)),
        providers=["CPUExecutionProvider"],
    )


def load_runtime() -> ModuleType:
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
