"""OME-Zarr on servers of this machine: with Range requests, without, and S3."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from cellunet.errors import ImageReadError
from cellunet.io.images import open_image
from cellunet.io.paths import find_inputs, output_paths
from cellunet.io.source import Region
from cellunet.io.zarr_store import address

pytest.importorskip("zarr", "3")
pytest.importorskip("aiohttp")

from tests.io.servers import Plain, Ranges
from tests.io.zarr_stores import write_store

PIXELS = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) + 1


def whole(url: str) -> np.ndarray:
    with open_image(Path(url)) as source:
        return source.read(Region(0, 0, 64, 0, 64))[0]


def sharded(path: Path) -> Path:
    return write_store(path, PIXELS, chunks=(16, 16), shards=(32, 32))


def test_a_server_with_range_requests_serves_shards(tmp_path, serve) -> None:
    sharded(tmp_path / "a.zarr")
    assert (whole(f"{serve(Ranges)}/a.zarr") == PIXELS).all()


def test_a_server_without_range_requests_is_named_as_the_cause(tmp_path, serve) -> None:
    sharded(tmp_path / "a.zarr")
    url = serve(Plain)
    with pytest.raises(ImageReadError, match="does not answer Range requests") as told:
        whole(f"{url}/a.zarr")
    assert f"{url}/a.zarr" in str(told.value)


def test_such_a_server_serves_what_is_not_sharded(tmp_path, serve) -> None:
    write_store(tmp_path / "a.zarr", PIXELS, chunks=(16, 16), version="0.4")
    assert (whole(f"{serve(Plain)}/a.zarr") == PIXELS).all()


@pytest.mark.parametrize("name", ["forbidden", "broken", "missing"])
def test_what_a_server_refuses_is_one_line(tmp_path, serve, name) -> None:
    if name != "missing":
        write_store(tmp_path / f"{name}.zarr", PIXELS, chunks=(16, 16))
    url = f"{serve(Plain)}/{name}.zarr"
    with pytest.raises(ImageReadError, match=re.escape(url)) as told:
        whole(url)
    assert "\n" not in str(told.value)


def test_an_address_is_an_input_as_it_is_and_results_lie_in_out(tmp_path) -> None:
    url = "https://example.org/data/a.ome.zarr"
    found = find_inputs([url])
    assert [address(path) for path in found.files] == [url]
    results = output_paths(found.files, found.base, tmp_path)
    assert list(results.values()) == [tmp_path / "a.zarr"]


def test_only_ome_zarr_is_read_from_servers(tmp_path) -> None:
    write_store(tmp_path / "a.zarr", PIXELS)
    found = find_inputs([str(tmp_path / "a.zarr"), "https://example.org/a.tif"])
    assert found.missing == [
        ("https://example.org/a.tif", "on a server; only OME-Zarr is read from there")
    ]


def test_s3_is_read_through_fsspec(tmp_path, monkeypatch) -> None:
    pytest.importorskip("s3fs", reason="s3fs of the extra s3 is not installed")
    pytest.importorskip("moto.server", reason="moto, an S3 server, is not installed")
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        for name, value in {
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "a",
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        files = s3fs.S3FileSystem()
        files.mkdir("bucket")
        files.put(str(sharded(tmp_path / "a.zarr")), "bucket/a.zarr", recursive=True)
        assert (whole("s3://bucket/a.zarr") == PIXELS).all()
        with pytest.raises(ImageReadError, match=r"s3://bucket/b\.zarr"):
            whole("s3://bucket/b.zarr")
    finally:
        server.stop()


def test_beside_files_an_address_has_its_result_directly_in_out(tmp_path) -> None:
    write_store(tmp_path / "in" / "b" / "x.zarr", PIXELS)
    write_store(tmp_path / "in" / "y.zarr", PIXELS)
    url = "s3://bucket/deep/a.zarr"
    found = find_inputs([str(tmp_path / "in"), url])
    results = output_paths(found.files, found.base, tmp_path / "out").values()
    assert [p.relative_to(tmp_path / "out").as_posix() for p in results] == [
        "b/x.zarr",
        "y.zarr",
        "a.zarr",
    ]
