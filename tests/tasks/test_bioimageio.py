"""Packages in bioimage.io's own library, where it is installed."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from cellunet.tasks.export_model import export_model

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def core():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(
            "bioimageio.core", reason="needs bioimageio.core and onnxruntime"
        )


@pytest.fixture
def path(tmp_path):
    return export_model(
        "nuclei", "bioimageio", out=tmp_path / "n.zip", authors=("A B",)
    ).path


def test_the_package_passes_the_test_of_its_format(core, path) -> None:
    summary = core.test_description(path)
    assert summary.status == "passed", summary.display()
    assert [d.name for d in summary.details if "Reproduce" in d.name]
    assert summary.type == "model"


def test_it_computes_there_what_cellunet_computes(core, path) -> None:
    from bioimageio.spec.utils import load_array

    model = core.load_model_description(path)
    assert model.format_version == model.implemented_format_version
    image = load_array(model.inputs[0].test_tensor)
    found = core.predict(model=model, inputs=image)
    values = found.members["probabilities"].data.to_numpy()
    own = load_array(model.outputs[0].test_tensor)
    # It mirrors the image at its edges, as far as the network sees.
    halo = model.outputs[0].axes[-1].halo
    inside = np.s_[..., halo:-halo, halo:-halo]
    np.testing.assert_allclose(values[inside], own[inside], atol=1e-4)
    # In blocks, too: none of them shows where it ends.
    blocks = core.predict(model=model, inputs=image, blocksize_parameter=4)
    values = blocks.members["probabilities"].data.to_numpy()
    np.testing.assert_allclose(values[inside], own[inside], atol=1e-4)
