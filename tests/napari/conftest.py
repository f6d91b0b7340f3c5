"""A viewer without a window, for the napari plugin; skipped where napari is absent."""

from __future__ import annotations

import os
import sys
import time
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 300


@pytest.fixture(scope="session")
def qt() -> Any:
    """Napari, the plugin's modules and a running Qt application."""
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    with warnings.catch_warnings():
        # They come from napari's own libraries.
        warnings.simplefilter("ignore")
        napari = pytest.importorskip("napari", reason="needs the extra napari")
        pytest.importorskip("qtpy.QtWidgets", reason="needs PyQt6 or PySide6")
        from napari.components import ViewerModel
        from qtpy.QtCore import QCoreApplication, QEvent
        from qtpy.QtWidgets import QApplication, QWidget

        from cellunet.napari import layers, sample, widget

        app = QApplication.instance() or QApplication([])

    def settle() -> None:
        """Let Qt do what waits, deletions too."""
        app.processEvents()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)

    return SimpleNamespace(
        napari=napari,
        viewer=ViewerModel,
        widget=widget,
        layers=layers,
        sample=sample,
        window=QWidget,
        settle=settle,
    )


@pytest.fixture
def wait(qt: Any) -> Callable[[Any], None]:
    """``wait(done)``: let the window work until `done` returns true."""

    def until(done: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < end, "it does not end"
            qt.settle()
            time.sleep(0.005)
        qt.settle()

    return until


@pytest.fixture
def viewer(qt: Any) -> Any:
    """A viewer without layers."""
    return qt.viewer()


@pytest.fixture
def widget(qt: Any, viewer: Any) -> Iterator[Any]:
    """The widget in it, as napari would add it."""
    made = qt.widget.CellunetWidget(viewer)
    events = viewer.layers.events
    for event in (events.inserted, events.removed, events.reordered, events.renamed):
        event.connect(made.reset_choices)
    yield made
    made.stop()
    if made._desk.job is not None:
        made._desk.job._thread.join()
    made.deleteLater()
    qt.settle()
