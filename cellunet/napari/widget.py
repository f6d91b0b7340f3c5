"""The widget: segment the image on screen, and train on its corrected labels."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

from magicgui import widgets
from napari.layers import Image, Labels
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

from cellunet.command_config import MODEL, SCRATCH
from cellunet.errors import CellunetError
from cellunet.napari.jobs import Job, JobSlot
from cellunet.napari.layers import (
    JoinedPlanes,
    LayerChoice,
    LayerPlanes,
    Result,
    training_pairs,
)
from cellunet.store import find_model
from cellunet.tasks.models import list_models
from cellunet.tasks.predict.plane import PredictionStopped
from cellunet.tasks.predict.session import LoadedModel, load_model
from cellunet.tasks.predict.sizes import common_size, planes_to_look_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel

    from cellunet.tasks.predict.session import Diameter
    from cellunet.tasks.predict.sizes import Size
    from cellunet.tasks.train.request import Trained

    Work = tuple[Callable[[Job], Any], Callable[[Any], None]]

SHOWN, ALL = "the plane shown", "all planes, one by one"

NO_CHANNELS = "none"

NEW_NAME, FIND_DIAMETER = "name of new model", "find the diameter"

FIELDS = {
    "--name": NEW_NAME,
    "--model": "model",
    "--from": "model",
    "--diameter": FIND_DIAMETER,
}
"""Options of the command line, and the fields that are for the same."""


class CellunetWidget(QWidget):  # type: ignore[misc]
    """What is chosen, two buttons, and how far the work is.

    Parameters
    ----------
    napari_viewer
        The viewer whose layers are worked on.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._desk = JobSlot()
        self._loaded: tuple[object, LoadedModel] | None = None
        self._make()
        self._form = widgets.Container(
            widgets=[
                *(self.image, self.planes, self.channel_axis, self.channel),
                *(self.model, self.find_diameter, self.diameter, self.segment),
                *(self.labels, self.new_name, self.minutes, self.train),
                *(self.progress, self.cancel),
            ]
        )
        layout = QVBoxLayout(self)
        layout.addWidget(self._form.native)
        # Not in the form, whose column of names would make it narrow.
        layout.addWidget(self.message.native)
        self._connect()
        self._follow_selection()
        self._show_axes()
        self._busy(None)

    def reset_choices(self, event: object = None) -> None:
        """List layers and models anew; napari calls it when layers change."""
        del event
        if not self._desk.closed:
            self._form.reset_choices()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802 - Qt's name
        """Stop the work when the widget is taken out of napari's window.

        Its cross does that, and destroys nothing.
        """
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is None:
                self._desk.close()
            elif self._desk.closed:
                self._desk.closed = False
                self._busy(None)

    def _make(self) -> None:
        """Make what the widget consists of."""
        self.image = widgets.ComboBox(
            label="image", choices=self._layers(Image), nullable=True
        )
        self.planes = widgets.ComboBox(
            label="planes",
            choices=[SHOWN, ALL],
            tooltip="Of a stack: the plane where the sliders are, or all.",
        )
        self.channel_axis = widgets.ComboBox(
            label="channel axis",
            choices=self._channel_axes,
            tooltip="Axis along which there are channels, if the layer holds several.",
        )
        self.channel = widgets.LineEdit(
            label="channel",
            value="0",
            tooltip="Number of the channel from 0; of a model that looks at several "
            "channels all of them, with commas between.",
        )
        self.model = widgets.ComboBox(label="model", choices=_model_names, value=MODEL)
        self.find_diameter = widgets.CheckBox(label=FIND_DIAMETER, value=True)
        self.diameter = widgets.FloatSpinBox(
            label="diameter (px)", value=30, min=2, max=2000, step=1
        )
        self.segment = widgets.PushButton(text="Segment")
        self.labels = widgets.ComboBox(
            label="corrected labels", choices=self._layers(Labels), nullable=True
        )
        self.new_name = widgets.LineEdit(label=NEW_NAME, value="my-cells")
        self.minutes = widgets.FloatSpinBox(
            label="minutes (0: as needed)",
            value=0,
            min=0,
            max=600,
            step=1,
            tooltip="Time budget of the training; without one it takes a few minutes.",
        )
        self.train = widgets.PushButton(
            text="Train on these labels",
            tooltip="Start from the model above, and learn from the image and the "
            "labels chosen.",
        )
        self.progress = widgets.ProgressBar(min=0, max=0, value=0)
        self.cancel = widgets.PushButton(text="Cancel")
        self.message = widgets.Label(value="")
        shown = self.message.native
        shown.setWordWrap(True)
        policy = shown.sizePolicy()
        policy.setHorizontalPolicy(policy.Policy.Ignored)
        shown.setSizePolicy(policy)

    def _connect(self) -> None:
        self.segment.changed.connect(self._start_segmenting)
        self.train.changed.connect(self._start_training)
        self.cancel.changed.connect(self.stop)
        self.image.changed.connect(self._show_axes)
        self.channel_axis.changed.connect(self._show_axes)
        self.find_diameter.changed.connect(self._show_axes)
        self._viewer.layers.selection.events.active.connect(self._follow_selection)
        desk = self._desk
        # Not a method: this widget is gone by then.
        self.destroyed.connect(lambda _=None: desk.close())

    def _layers(self, kind: Any) -> Callable[[Any], list[tuple[str, Any]]]:  # noqa: ANN401
        """Return a function that lists the layers of a kind."""
        layers: Any = self._viewer.layers
        return lambda _: [(a.name, a) for a in layers if isinstance(a, kind)]

    def _channel_axes(self, _: Any) -> list[tuple[str, int | None]]:  # noqa: ANN401
        layer = self.image.value
        axes = range(0 if layer is None else layer.ndim - 2)
        names = [f"{i} ({layer.data.shape[i]} long)" for i in axes]
        return [(NO_CHANNELS, None), *zip(names, axes, strict=True)]

    def _follow_selection(self, event: object = None) -> None:
        """Take the image, or the labels, that are selected in the list of layers."""
        del event
        if self._desk.closed:
            # The viewer may hear of it later than its layers change.
            return
        active = self._viewer.layers.selection.active
        for kind, chosen in ((Image, self.image), (Labels, self.labels)):
            if isinstance(active, kind) and active in chosen.choices:
                chosen.value = active

    def _show_axes(self, _: object = None) -> None:
        """Show what can be chosen of this image."""
        layer = self.image.value
        self.channel_axis.reset_choices()
        stack = layer is not None and layer.ndim > 2
        self.planes.visible = self.channel_axis.visible = stack
        self.channel.visible = stack and self.channel_axis.value is not None
        self.diameter.visible = not self.find_diameter.value

    def stop(self) -> None:
        """Ask what is in work to stop."""
        if self._desk.job is not None:
            self._desk.job.stop()
            self.message.value = "Stopping ..."

    def _busy(self, job: Job | None) -> None:
        self._desk.job = job
        self.segment.enabled = self.train.enabled = job is None
        self.progress.visible = self.cancel.visible = job is not None

    def _start(self, prepare: Callable[[], Work]) -> None:
        """Start work in a thread; say why it cannot be."""
        try:
            work, finished = prepare()
        except CellunetError as error:
            self.message.value = message_of(error)
            return

        def done(result: object) -> None:
            self._busy(None)
            finished(result)

        job = Job(work, self._show_progress, done, self._show_failure)
        self._show_progress("Beginning ...", 0, 0)
        self._busy(job)
        job.start()

    def _show_progress(self, what: str, done: int, total: int) -> None:
        self.progress.max = total
        self.progress.value = min(done, total)
        if self._desk.job is None or not self._desk.job.stopping():
            self.message.value = what

    def _show_failure(self, error: Exception) -> None:
        self._busy(None)
        if isinstance(error, PredictionStopped):
            self.message.value = "Stopped; no layer was added."
            return
        self.message.value = message_of(error)
        if not isinstance(error, (CellunetError, OSError, MemoryError)):
            # A fault of a program: napari shows where.
            raise error

    def _planes(self) -> LayerPlanes:
        layer = self.image.value
        if layer is None:
            raise CellunetError(
                "There is no image layer.",
                hint="Open an image, or File > Open Sample > cellunet.",
            )
        if layer.ndim < 2:
            raise CellunetError(f"{layer.name} has no rows and columns.")
        axis = self.channel_axis.value
        choice = LayerChoice(
            every_plane=self.planes.value == ALL,
            channel_axis=axis,
            # What the hidden field still holds says nothing.
            channels=(0,) if axis is None else _numbers(self.channel.value),
        )
        return LayerPlanes(layer, choice, self._viewer.dims.point)

    def _model(self, name: str) -> LoadedModel:
        """Return a model, which is loaded once as long as its file is the same."""
        key = (name, find_model(name).seen)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = (key, load_model(name))
        return self._loaded[1]

    def _start_segmenting(self) -> None:
        self._start(self._prepare_segmenting)

    def _prepare_segmenting(self) -> Work:
        planes, name = self._planes(), self.model.value
        size, place = planes.pixel_size_um(), planes.place()
        diameter: Diameter = "auto"
        if not self.find_diameter.value:
            diameter = float(self.diameter.value)

        def work(job: Job) -> Result:
            job.tell(f"Loading {name} ...")
            model, found = self._model(name), JoinedPlanes(planes)
            indices = planes.indices()
            seen_at: Diameter | Size = diameter
            if diameter == "auto" and len(indices) > 1:
                seen_at = _one_size(model, planes, job) or diameter
            for number, index in enumerate(indices, 1):
                tell = partial(
                    job.tell, f"Segmenting plane {number} of {len(indices)} ..."
                )
                tell()
                labels, table = model.segment(
                    planes.read(index),
                    diameter=seen_at,
                    pixel_size_um=size,
                    on_rows=tell,
                    should_stop=job.stopping,
                )
                found.add(index, labels, table)
            return found.result()

        def finished(result: Result) -> None:
            layer = self._viewer.add_labels(
                result.labels,
                name=f"{planes.layer.name} labels",
                features=result.features,
                **place,
            )
            self.reset_choices()
            self.labels.value = layer
            self.message.value = (
                f"{len(result.features)} objects; measurements are in the layer's "
                "features."
            )

        return work, finished

    def _start_training(self) -> None:
        self._start(self._prepare_training)

    def _prepare_training(self) -> Work:
        planes, layer = self._planes(), self.labels.value
        if len(planes.choice.channels) > 1:
            raise CellunetError(
                "Training from layers takes one channel.",
                hint="Choose one, or train on files: cellunet train.",
            )
        if layer is None:
            raise CellunetError(
                "There is no labels layer.",
                hint="Segment the image first, and correct what it finds.",
            )
        name, minutes = self.new_name.value.strip(), float(self.minutes.value) or None
        start = self.model.value

        def work(job: Job) -> Trained:
            job.tell("Reading the planes ...")
            pairs = training_pairs(planes, layer)
            job.tell("Loading PyTorch ...")
            from cellunet.tasks.train.arrays import train_arrays
            from cellunet.tasks.train.request import Hooks

            hooks = Hooks(
                on_note=job.tell,
                on_step=lambda step, steps, loss: job.tell(
                    f"Training: step {step} of {steps}, loss {loss:.3f}", step, steps
                ),
                track=job.track,
                should_stop=job.stopping,
            )
            return train_arrays(pairs, name, start=start, minutes=minutes, hooks=hooks)

        return work, self._show_trained

    def _show_trained(self, trained: Trained) -> None:
        if not trained.finished:
            self.message.value = "Stopped; no model was kept."
            return
        self.model.reset_choices()
        self.model.value = trained.name
        self.message.value = " ".join(_said(trained))


def _one_size(model: LoadedModel, planes: LayerPlanes, job: Job) -> Size | None:
    """Return one size for all planes, as `predict` finds it for a stack; None: none.

    Raises
    ------
    PredictionStopped
        If the job was asked to stop.
    """
    indices, sizes = planes.indices(), []
    # The one that is shown, or those of all axes but rows and columns.
    shape = planes.labels_shape[:-2]
    for index in (indices[number] for number in planes_to_look_at(shape)):
        job.tell("Finding the size of the objects ...")
        if job.stopping():
            raise PredictionStopped
        sizes.append(model.size_of(planes.read(index), diameter="auto"))
    found = [size for size in sizes if size is not None]
    return common_size(found) if found else None


def _said(trained: Trained) -> list[str]:
    """Return in sentences what was trained and how good it is."""
    said = [f"Model {trained.name} is ready and chosen above."]
    if trained.expected is not None:
        found = trained.expected.f1_50
        said.append(
            f"F1 at IoU .50 on parts that were not trained on: {found.value:.2f} "
            f"({found.low:.2f} to {found.high:.2f})."
        )
    if trained.kept_start and trained.start != SCRATCH:
        said.append(
            f"Training gained nothing over {trained.start} here, so its weights are "
            "kept: correct more images, or other ones."
        )
    return said


def _model_names(_: object) -> list[str]:
    """Return the models that can be used, the one that ships first."""
    ready = [info for info in list_models() if info.status == "ready"]
    return [i.name for i in sorted(ready, key=lambda i: (not i.shipped, i.name))]


def _numbers(text: str) -> tuple[int, ...]:
    """Return the channels that are named by numbers with commas between."""
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", text):
        raise CellunetError(
            f"Channel {text!r} is no number.",
            hint="Give one from 0 on, or several with commas between.",
        )
    return tuple(int(part) for part in text.split(","))


def message_of(error: Exception) -> str:
    """Return what to show of an error: what and where, and what to do next.

    Of hints that name options of the command line what the window has is told.
    """
    if not isinstance(error, CellunetError):
        return f"{type(error).__name__}: {error}"
    hint = error.hint
    if "--" in hint or "cellunet models" in hint:
        named = re.findall(r"--[a-z-]+", hint)
        fields = [FIELDS[option] for option in named if option in FIELDS]
        hint = f"Change above: {', '.join(fields)}." if fields else ""
    return f"{error.message} {hint}".strip()
