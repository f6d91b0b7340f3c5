"""Models for other programs: the exported graph computes what cellunet computes."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from cellunet import store
from cellunet.config import (
    DecodeConfig,
    EncodingConfig,
    NormalizationConfig,
    UNetConfig,
    WeightConfig,
)
from cellunet.core.checkpoint import export_weights
from cellunet.engine.runtimes import open_session
from cellunet.errors import CheckpointError, ConfigError, OutputError
from cellunet.store import ModelCard, find_model
from cellunet.tasks import export_model as exporting
from cellunet.tasks.export_model import as_yaml, export_model
from tests.networks import TINY, random_network

NORMALIZATIONS = {
    "plain": NormalizationConfig(),
    "negative": NormalizationConfig(invert=True),
    "root": NormalizationConfig(curve="square-root"),
    "root of the negative": NormalizationConfig(invert=True, curve="square-root"),
    "standard": NormalizationConfig(kind="standard"),
    "negative standard": NormalizationConfig(kind="standard", invert=True),
}


def _saved(folder, normalization, *, channels=1, target="three-class", odds=None):
    """Return the folder of a model with random weights."""
    classes = len(EncodingConfig(target=target).classes)
    odds = odds or (0.5, 2.0, 3.0)[:classes]
    config = TINY.replace(
        normalization=normalization,
        encoding=EncodingConfig(target=target),
        weights=WeightConfig(class_weights=odds),
        decode=DecodeConfig(class_odds=odds),
        network=UNetConfig(
            in_channels=channels * normalization.channels,
            classes=classes,
            channels=(4, 6),
            stem_stride=2,
        ),
    )
    names = tuple(f"c{i}" for i in range(channels)) if channels > 1 else ()
    card = ModelCard(
        name="random", config=config, diameter_px=(9.0, 14.0, 20.0), channels=names
    )
    folder.mkdir()
    export_weights(folder / store.WEIGHTS_FILE, random_network(config.network), card)
    return str(folder)


def _files(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", NORMALIZATIONS)
def test_a_package_holds_what_cellunet_computes(tmp_path, kind, channels) -> None:
    # `export_model` itself compares the graph with the flow of `predict`.
    name = _saved(tmp_path / "m", NORMALIZATIONS[kind], channels=channels)
    made = export_model(name, "bioimageio", out=tmp_path / "m.zip")
    files = _files(made.path)
    image = np.load(io.BytesIO(files["test-input.npy"]))
    found = np.load(io.BytesIO(files["test-output.npy"]))
    assert image.shape == (1, channels, 256, 256)
    assert found.shape == (1, 3, 256, 256)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    # It tells apart what it sees: otherwise equal numbers would say little.
    assert found.std(axis=(2, 3)).min() > 1e-4


@pytest.mark.parametrize("diameter_px", [0.0, 5.0, 11.0, 400.0])
def test_models_of_small_and_of_large_objects_are_exported(
    tmp_path, diameter_px
) -> None:
    weights = tmp_path / "m" / store.WEIGHTS_FILE
    _saved(tmp_path / "m", NormalizationConfig())
    card = replace(store.read_card(weights), diameter_px=(diameter_px,) * 3)
    store.write(weights, store.read_tensors(weights), card.to_dict())
    export_model(str(tmp_path / "m"), "bioimageio", out=tmp_path / "m.zip")


def test_a_graph_that_computes_something_else_is_not_written(
    tmp_path, monkeypatch
) -> None:
    name = _saved(tmp_path / "m", NORMALIZATIONS["plain"])
    own = exporting.own_probabilities
    monkeypatch.setattr(exporting, "own_probabilities", lambda *args: own(*args) * 0.99)
    with pytest.raises(CheckpointError, match="nothing was written"):
        export_model(name, "bioimageio", out=tmp_path / "m.zip")
    assert not (tmp_path / "m.zip").exists()


def test_the_loss_is_corrected_in_the_graph(tmp_path) -> None:
    # All weight on one class: its probability falls by the odds.
    paths = [
        _saved(tmp_path / name, NORMALIZATIONS["plain"], target="boundary", odds=odds)
        for name, odds in (("even", (1.0, 1.0)), ("odd", (1.0, 3.0)))
    ]
    image = {"image": np.random.default_rng(0).random((1, 1, 16, 16), np.float32)}
    even, odd = (
        open_session(
            export_model(path, "onnx", out=tmp_path / f"{n}.onnx").path.read_bytes(), 1
        ).run(None, image)[0][0]
        for n, path in enumerate(paths)
    )
    expected = even[1] / 3 / (even[0] + even[1] / 3)
    np.testing.assert_allclose(odd[1], expected, rtol=1e-5)


def test_onnx_itself_finds_nothing_wrong(tmp_path) -> None:
    for kind, norm in NORMALIZATIONS.items():
        name = _saved(tmp_path / kind, norm)
        path = export_model(name, "onnx", out=tmp_path / f"{kind}.onnx").path
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        (note,) = model.metadata_props
        about = json.loads(note.value)
        assert (note.key, about["classes"]) == (
            "cellunet",
            ["background", "interior", "boundary"],
        )
        assert about["normalization"] == norm.to_dict()


def test_the_same_model_gives_the_same_package(tmp_path) -> None:
    name = _saved(tmp_path / "m", NORMALIZATIONS["plain"])
    first, second = (
        export_model(name, "bioimageio", out=tmp_path / f"{n}.zip").path.read_bytes()
        for n in (1, 2)
    )
    assert first == second


def test_what_is_said_of_the_model_that_ships(tmp_path) -> None:
    path = tmp_path / "nuclei.zip"
    export_model("nuclei", "bioimageio", out=path, authors=('A "B" C',))
    files = _files(path)
    text = files["rdf.yaml"].decode()
    assert 'license: "BSD-3-Clause"' in text
    assert 'name: "A \\"B\\" C"' in text
    assert f'"{find_model("nuclei").sha256}"' in text
    (sums,) = [files.pop(n) for n in list(files) if n == "SHA256SUMS"]
    assert len(sums.splitlines()) == len(files) == 7
    # What is lost to other programs is said, and how it is not.
    assert "cellunet models add" in files["README.md"].decode()


def test_a_magnification_is_told(tmp_path) -> None:
    name = _saved(tmp_path / "m", NORMALIZATIONS["plain"])
    model = find_model(name)
    config = model.card.config.replace(scale=1.5)
    file = tmp_path / "m" / store.WEIGHTS_FILE
    card = replace(model.card, config=config)
    store.write(file, store.read_tensors(file), card.to_dict())
    made = export_model(name, "bioimageio", out=tmp_path / "m.zip")
    assert "Magnify images by 1.5 first" in _files(made.path)["README.md"].decode()


@pytest.mark.parametrize(
    ("kind", "words"),
    [("plain", "by two percentiles"), ("standard", "to mean 0 and standard deviation")],
)
def test_the_scaling_that_is_told_is_the_models(tmp_path, kind, words) -> None:
    name = _saved(tmp_path / "m", NORMALIZATIONS[kind])
    made = export_model(name, "bioimageio", out=tmp_path / "m.zip")
    assert f"intensities are\nscaled {words}" in _files(made.path)["README.md"].decode()


def test_files_that_are_there_and_unknown_forms_are_refused(tmp_path) -> None:
    path = tmp_path / "n.onnx"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        export_model("nuclei", "onnx", out=path)
    assert path.read_text() == "mine"
    export_model("nuclei", "onnx", out=path, overwrite=True)
    assert onnx.load(path)
    with pytest.raises(ConfigError, match="Unknown form 'keras'"):
        export_model("nuclei", "keras")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            {"a": 1, "b": {"c": [1.5, "x: y"]}},
            'a: 1\nb:\n  c:\n    - 1.5\n    - "x: y"',
        ),
        ([{"a": None}, [], {}], "-\n  a: null\n- []\n- {}"),
        # Without a point some readers take it for a word.
        ({"eps": 1e-9, "big": 2e30}, "eps: 1.0e-09\nbig: 2.0e+30"),
        ({"no": "no", "µ": "µ"}, 'no: "no"\nµ: "\\u00b5"'),
    ],
)
def test_plain_values_are_written_as_yaml(value, text) -> None:
    assert as_yaml(value) == text
