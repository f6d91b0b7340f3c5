"""Mutated files end in success or in one line of a CellunetError.

The long form is ``python -m benchmarks.fuzz``; what it found has tests at the end.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellunet.annotations.read import ReadRequest, read_drawn
from cellunet.errors import AnnotationError
from tests.faults.fuzzing import seeds, worker
from tests.faults.fuzzing.mutate import FORMATS, mutated
from tests.faults.fuzzing.runner import GOOD, Tally, Worker, fuzz

CASES = 30
DEEP = 0.3
"""Share of cases of each format that must get past its header."""

if sys.platform != "linux":
    pytest.skip("the worker is watched through /proc", allow_module_level=True)


@pytest.fixture(scope="module")
def tallies() -> Iterator[dict[str, Tally]]:
    pytest.importorskip("torch")
    return fuzz([*FORMATS], 1, CASES)


@pytest.mark.parametrize("name", FORMATS)
def test_mutated_files_are_read_or_refused_in_one_line(tallies, name) -> None:
    tally = tallies[name]
    assert tally.cases == CASES
    assert not tally.bad, tally.bad[0]
    assert set(tally.outcomes) <= GOOD


@pytest.mark.parametrize("name", FORMATS)
def test_many_mutations_get_past_the_header(tallies, name) -> None:
    assert tallies[name].deep >= DEEP * CASES


def valid() -> dict[str, list[bytes]]:
    return {
        "tiff": [*seeds.tiffs()],
        "codecs": [*seeds.codecs()],
        "png": [*seeds.pngs()],
        "ome": [seeds.ome_tiff(seeds.OME)],
        "rois": [seeds.zipped(seeds.rois())],
        **{
            kind: [seeds.encoded(seeds.documents(kind))]
            for kind in ("geojson", "coco", "labelme")
        },
        "safetensors": [seeds.weights()],
        "list": [b"@/a.tif\n@/*.png\n@"],
    }


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_mutated_is_valid_to_begin_with(name, tmp_path) -> None:
    for content in valid()[name]:
        told = worker.run(name, content, tmp_path)
        assert told["deep"], told["where"]
        assert told["outcome"] == "success", told["where"]


def test_the_same_numbers_make_the_same_case() -> None:
    for name in FORMATS:
        assert mutated(name, 5, 3) == mutated(name, 5, 3)
        assert len({mutated(name, 5, index) for index in range(5)}) > 1


@pytest.mark.slow
def test_a_worker_that_dies_costs_one_case(monkeypatch) -> None:
    real = Worker.ask

    def deadly(self: Worker, name: str, seed: int, first: int, stop: int) -> None:
        real(self, name, seed, first, stop)
        if first == 0:
            self.process.kill()

    monkeypatch.setattr(Worker, "ask", deadly)
    tally = fuzz(["png"], 1, 3)["png"]
    assert tally.outcomes["crash"] == 1
    assert tally.cases == 3


def test_a_bug_is_told_with_its_place(tmp_path, monkeypatch) -> None:
    def fails(path: Path, past: worker.Past) -> None:
        past()
        raise KeyError(os.fspath(path))

    monkeypatch.setitem(worker.TARGETS, "png", fails)
    told = worker.run("png", b"", tmp_path)
    assert told["outcome"] == "traceback"
    assert "KeyError" in told["where"]


def refused(tmp_path: Path, kind: str, content: bytes) -> str:
    path = tmp_path / f"a{worker.SUFFIX.get(kind, '.json')}"
    path.write_bytes(content)
    with pytest.raises(AnnotationError) as caught:
        read_drawn(path, ReadRequest(shape=(24, 24)), kind)
    return str(caught.value)


def test_an_entry_of_a_zip_without_a_name_is_refused(tmp_path) -> None:
    content = seeds.zipped([("", seeds.rois()[0][1])])
    assert "'', which is no ROI" in refused(tmp_path, "rois", content)


def test_a_document_whose_type_is_no_text_is_refused(tmp_path) -> None:
    content = json.dumps({"type": {"type": "Polygon"}, "features": []}).encode()
    assert refused(tmp_path, "geojson", content)


@pytest.mark.parametrize("far", [1e308, -1.1e150])
@pytest.mark.parametrize("kind", ["circle", "rectangle"])
def test_coordinates_beyond_any_image_are_refused(tmp_path, kind, far) -> None:
    shape = {"label": "n", "shape_type": kind, "points": [[1, 2], [far, 3]]}
    document = seeds.documents("labelme") | {"shapes": [shape]}
    told = refused(tmp_path, "labelme", json.dumps(document).encode())
    assert "beyond 1e+150 pixels" in told
