"""Models that somebody shared: taken whole and checked, or refused in one line."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest

from cellunet import store
from cellunet.errors import (
    CellunetError,
    CheckpointError,
    ConfigError,
    InputError,
    OutputError,
)
from cellunet.store import find_model
from cellunet.tasks.add_model import add_model
from cellunet.tasks.export_model import export_model
from cellunet.tasks.models import list_models

NUCLEI = store.SHIPPED / "nuclei"
CONTENT = (NUCLEI / store.WEIGHTS_FILE).read_bytes()


@pytest.fixture
def shared(home, tmp_path) -> Path:
    """A folder as a colleague's training leaves it."""
    folder = tmp_path / "theirs"
    (folder / "validation").mkdir(parents=True)
    shutil.copy(NUCLEI / store.WEIGHTS_FILE, folder)
    (folder / "history.csv").write_text("epoch\n1\n")
    (folder / "validation" / "a.png").write_bytes(b"picture")
    (folder / "notes.docx").write_bytes(b"private")
    return folder


def _zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def _mine() -> list[str]:
    return [info.name for info in list_models() if not info.shipped]


def test_a_folder_is_taken_with_what_belongs_to_a_model(shared, home) -> None:
    added = add_model(str(shared))
    assert added.name == "theirs"
    assert added.sha256 == find_model("nuclei").sha256 == find_model("theirs").sha256
    files = sorted(p.name for p in added.path.rglob("*") if p.is_file())
    assert files == ["a.png", "history.csv", store.WEIGHTS_FILE]
    assert added.path == home / "models" / "theirs"


def test_so_is_a_zip_of_it_and_a_file_alone(shared) -> None:
    zipped = shutil.make_archive(
        str(shared.parent / "z"), "zip", shared.parent, "theirs"
    )
    added = add_model(zipped, "b")
    assert (added.path / "validation" / "a.png").read_bytes() == b"picture"
    assert add_model(zipped).name == "theirs"
    flat = shutil.make_archive(str(shared.parent / "my-flat"), "zip", shared)
    assert add_model(flat).name == "my-flat"
    assert add_model(str(shared / store.WEIGHTS_FILE), "c").name == "c"
    assert _mine() == ["b", "c", "my-flat", "theirs"]


def test_from_within_its_folder_a_file_is_named_after_it(shared, monkeypatch) -> None:
    monkeypatch.chdir(shared)
    assert add_model(store.WEIGHTS_FILE).name == "theirs"


def test_where_its_own_name_cannot_name_a_model_one_is_asked_for(shared) -> None:
    folder = shared.rename(shared.parent / "My cells")
    zipped = _zip(shared.parent / "a.zip", {f"My cells/{store.WEIGHTS_FILE}": CONTENT})
    for source in (folder, folder / store.WEIGHTS_FILE, zipped):
        with pytest.raises(ConfigError, match="'My cells' cannot name") as caught:
            add_model(str(source))
        assert "--name" in caught.value.hint
    assert add_model(str(zipped), "my-cells").name == "my-cells"


def test_what_macos_puts_beside_is_no_second_model(home, tmp_path) -> None:
    inside = f"cells/{store.WEIGHTS_FILE}"
    files = {inside: CONTENT, f"__MACOSX/{inside}": b"attributes"}
    assert add_model(str(_zip(tmp_path / "a.zip", files))).name == "cells"


def test_a_package_that_was_exported_comes_back_as_it_was(home, tmp_path) -> None:
    path = tmp_path / "cells.bioimageio.zip"
    export_model("nuclei", "bioimageio", out=path)
    added = add_model(str(path))
    assert added.name == "cells"
    assert set(added.checked) == {store.WEIGHTS_FILE}
    assert (added.path / store.WEIGHTS_FILE).read_bytes() == CONTENT
    assert find_model("cells").sha256 == find_model("nuclei").sha256


def test_a_file_that_was_changed_on_the_way_is_refused(home, tmp_path) -> None:
    path = tmp_path / "a.zip"
    export_model("nuclei", "bioimageio", out=path)
    with zipfile.ZipFile(path) as archive:
        files = {n: archive.read(n) for n in archive.namelist()}
    changed = bytearray(files[store.WEIGHTS_FILE])
    changed[-1] ^= 1
    files[store.WEIGHTS_FILE] = bytes(changed)
    shared = hashlib.sha256(CONTENT).hexdigest()[:8]
    with pytest.raises(
        CheckpointError, match=rf"SHA-256 begins with .{{8}}, not {shared}"
    ):
        add_model(str(_zip(tmp_path / "b.zip", files)))
    assert _mine() == []


def test_another_hash_than_the_one_told_is_refused(shared) -> None:
    told = find_model("nuclei").sha256
    with pytest.raises(CheckpointError, match="has the SHA-256"):
        add_model(str(shared), sha256="ab" * 32)
    assert _mine() == []
    assert add_model(str(shared), sha256=f" {told.upper()}\n").sha256 == told


@pytest.mark.parametrize(
    "name",
    [
        "../out.txt",
        "theirs/../../out.txt",
        "/tmp/out.txt",
        "C:\\out.txt",
        "..\\out.txt",
    ],
)
def test_a_zip_that_climbs_out_is_refused_whole(home, tmp_path, name) -> None:
    path = _zip(tmp_path / "a.zip", {store.WEIGHTS_FILE: CONTENT, name: b"harmless"})
    with pytest.raises(CheckpointError, match="lies outside of it; nothing was taken"):
        add_model(str(path))
    assert _mine() == []
    assert not list(tmp_path.rglob("out.txt"))


def test_pictures_are_left_out_whose_names_windows_takes_otherwise(
    home, tmp_path
) -> None:
    named = ("field (1).png", "ä.png", "a:b.png", "sub\\x.png", "con.png", "a.b.txt")
    files = {f"validation/{name}": b"picture" for name in named}
    path = _zip(tmp_path / "a.zip", {store.WEIGHTS_FILE: CONTENT, **files})
    taken = {p.name for p in (add_model(str(path)).path / "validation").iterdir()}
    assert taken == {"field (1).png", "ä.png"}


def test_a_link_in_a_zip_is_refused(home, tmp_path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo(store.WEIGHTS_FILE)
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "elsewhere")
    with pytest.raises(CheckpointError, match="which is a link"):
        add_model(str(path))


def test_a_zip_that_claims_to_be_huge_is_not_read(home, tmp_path) -> None:
    path = _zip(tmp_path / "a.zip", {store.WEIGHTS_FILE: b"0" * 1000})
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (0xFFFFFFF0).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="more than a model can"):
        add_model(str(path))


class Opened:
    """Leaves a file behind if it is ever unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("unpickled"),))


def test_nothing_is_unpickled(home, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("model.pt", "model.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Opened()))
        with pytest.raises(CheckpointError, match="is not a safetensors file"):
            add_model(name, "a")
    assert not Path("unpickled").exists()


def _with_card(change) -> bytes:
    """Return the weights that ship with another card."""
    card = store.read_metadata(NUCLEI / store.WEIGHTS_FILE)
    change(card)
    return store.encode(store.read_tensors(NUCLEI / store.WEIGHTS_FILE), card)


@pytest.mark.parametrize("pack", [False, True], ids=["file", "zip"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CONTENT[:300_000], r"is not a safetensors file, or it is cut off"),
        (_with_card(lambda card: card.update(format=2)), "It has format 2; this"),
        (_with_card(lambda card: card.update(flavor=1)), "Its flavor are not known"),
        (
            _with_card(lambda c: c["config"]["network"].update(channels=[8, 8])),
            "does not fit the network of its card",
        ),
    ],
    ids=["truncated", "newer", "newer field", "other network"],
)
def test_a_model_that_cannot_be_used_is_refused_by_its_own_name(
    home, tmp_path, pack, content, message
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    if pack:
        path = _zip(tmp_path / "a.zip", {f"x/{store.WEIGHTS_FILE}": content})
    with pytest.raises(CheckpointError, match=message) as caught:
        add_model(str(path))
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert _mine() == []


def test_of_another_kind_of_file_what_is_taken_is_said(home, tmp_path) -> None:
    for name, hint in (
        ("a.txt", "Give model.safetensors, its folder, or a zip of that."),
        ("a.safetensors", "Copy it again, or train the model again."),
    ):
        (tmp_path / name).write_text("hello")
        with pytest.raises(CheckpointError, match="is not a safetensors") as caught:
            add_model(str(tmp_path / name))
        assert caught.value.hint == hint


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_a_zip_is_damaged_whatever_its_compression_says_of_it(
    compression, home, tmp_path
) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(store.WEIGHTS_FILE, CONTENT[:20_000])
        begin = archive.infolist()[0].header_offset + 30 + len(store.WEIGHTS_FILE)
    whole = bytearray(path.read_bytes())
    whole[begin : begin + 400] = bytes(400)
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match=r"a\.zip is damaged") as caught:
        add_model(str(path))
    assert caught.value.hint == "Copy it again."
    assert _mine() == []


def test_a_zip_that_is_cut_off_or_damaged_is_refused(home, tmp_path) -> None:
    path = _zip(tmp_path / "a.zip", {store.WEIGHTS_FILE: CONTENT})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="is no zip, or it is cut off"):
        add_model(str(path))
    damaged = bytearray(whole)
    damaged[5000] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError, match=r"a\.zip is damaged"):
        add_model(str(path))


def test_what_is_no_model_is_said_so(home, tmp_path) -> None:
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / store.STATE_FILE).write_bytes(b"")
    two = {f"{name}/{store.WEIGHTS_FILE}": CONTENT for name in "ab"}
    for source, message in (
        ("https://example.org/a.zip", "is an address"),
        (tmp_path / "nothing", "There is no"),
        (tmp_path, "holds no model of cellunet"),
        (unfinished, "not finished"),
        (_zip(tmp_path / "p.zip", {"rdf.yaml": b"type: model"}), "holds no model of"),
        (_zip(tmp_path / "t.zip", two), "holds 2 models"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            add_model(str(source))
        assert caught.value.hint


def test_a_taken_name_is_refused_until_it_may_be_replaced(shared) -> None:
    add_model(str(shared))
    with pytest.raises(ConfigError, match="exists already"):
        add_model(str(shared))
    (shared / "history.csv").unlink()
    added = add_model(str(shared), overwrite=True)
    assert not (added.path / "history.csv").exists()
    for name, message in (("nuclei", "ships with"), ("a b", "cannot name a model")):
        with pytest.raises(CellunetError, match=message):
            add_model(str(shared), name)


def test_where_models_cannot_be_kept_another_home_is_asked_for(
    shared, tmp_path, monkeypatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CELLUNET_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(OutputError) as caught:
        add_model(str(shared))
    assert caught.value.hint == "Set CELLUNET_HOME to a folder that can be written."


def test_reports_are_plain_values(shared, tmp_path) -> None:
    assert json.dumps(add_model(str(shared)).to_dict())
    made = export_model("nuclei", "onnx", out=tmp_path / "a.onnx")
    assert json.loads(json.dumps(made.to_dict()))["bytes"] == made.path.stat().st_size
    assert made.sha256 == find_model("nuclei").sha256
