"""``cellunet doctor`` tells what a report needs, in text and as JSON."""

from __future__ import annotations

import json
import platform

import numpy as np

from cellunet import __version__
from cellunet import bugs as versions
from cellunet.cli.app import main
from cellunet.tasks import doctor as task


def test_versions_engines_and_folders_are_told(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CELLUNET_HOME", str(tmp_path / "home"))
    assert main(["doctor"]) == 0
    told = capsys.readouterr()
    text = told.out + told.err
    for part in (__version__, platform.python_version(), np.__version__):
        assert part in text
    assert "engine onnxruntime" in text
    assert "tifffile" in text


def test_the_document_holds_the_same(capsys):
    assert main(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "doctor"
    result = document["result"]
    assert result["cellunet"] == __version__
    assert result["versions"]["numpy"] == np.__version__
    assert result["engines"]["onnxruntime"] is True
    assert "cpu" in result["devices"]
    assert result["threads"] >= 1


def test_a_package_that_is_not_there_is_said_so(monkeypatch, capsys):
    monkeypatch.setitem(versions.TESTED, "no-such-package", ("1", "2"))
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["result"]["versions"]
    assert found["no-such-package"] is None


def test_without_torch_there_is_the_cpu(monkeypatch):
    monkeypatch.setattr(task, "_has_what_it_needs", lambda engine: engine != "torch")
    assert task.diagnose().devices == ["cpu"]
