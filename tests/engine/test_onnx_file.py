"""A model file as engines open it."""

from __future__ import annotations

import pytest

from cellunet.engine.onnx import build
from cellunet.engine.onnx_files import INT8, open_onnx
from cellunet.errors import CheckpointError


@pytest.fixture
def content(small_weights, small_config):
    return build(small_weights, small_config, {"key": "value"})


def test_a_file_and_its_bytes_hold_the_same(content, small_config, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    for given, source in ((path, str(path)), (content, "The model")):
        opened = open_onnx(given)
        assert opened.source == source
        assert opened.content == content
        assert opened.config == small_config
        assert opened.metadata == {"key": "value"}


def test_the_hint_is_the_callers(content):
    with pytest.raises(CheckpointError) as caught:
        open_onnx(content, INT8, hint="Do this.")
    assert caught.value.hint == "Do this."
