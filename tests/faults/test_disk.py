"""A full disk, a folder that permits nothing or is removed: said, and nothing lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellunet import store
from tests.faults.conftest import (
    MOMENTS,
    Ended,
    Workshop,
    hashes,
    moments,
    whole_files,
)
from tests.faults.test_kill import check_readable, predict_words, train_words

ROOM = "Free space"


def told(ended: Ended) -> str:
    """What the command said, with no traceback."""
    assert "Traceback" not in ended.err, ended.err
    assert "bug in cellunet" not in ended.err
    return ended.err


def needs_room(events: list[str]) -> list[int]:
    """Return which events a full disk refuses.

    Not removals; and folders that are there already are "made" again without harm.
    """
    kinds = ("open", "cellunet", "os.rename")
    return [k for k, event in enumerate(events, 1) if event.startswith(kinds)]


def picked(events: list[str], seed: int) -> list[int]:
    places = needs_room(events)
    return [places[k - 1] for k in moments(len(places), MOMENTS, seed)]


@pytest.mark.parametrize("kind", ["many", "large"])
def test_predict_on_a_disk_that_is_full_at_any_moment(
    workshop: Workshop, small_images, large_field, tiny_model, tmp_path, kind
) -> None:
    images = small_images if kind == "many" else large_field
    whole, out = tmp_path / "whole", tmp_path / "out"
    undisturbed = workshop(*predict_words(images, tiny_model.folder, whole), root=whole)
    for at in picked(undisturbed.events, 7):
        words = predict_words(images, tiny_model.folder, out)
        ended = workshop(*words, root=out, at=at, what="ENOSPC")
        assert ended.code in (1, 3), (at, undisturbed.events[at - 1], ended.err)
        assert ROOM in told(ended)
        found = whole_files(out)
        # The run's own table holds what is finished.
        found.pop("table.csv", None)
        assert found.items() <= hashes(whole).items(), at
        # Not killed, it leaves nothing hidden behind.
        assert not set(hashes(out)) - set(whole_files(out)), at
        again = workshop(*words, root=out)
        assert again.code == 0, again.err
        assert hashes(out) == hashes(whole), at
        shutil.rmtree(out, ignore_errors=True)


def test_train_on_a_disk_that_is_full_at_any_moment(
    workshop: Workshop, annotated, tmp_path
) -> None:
    whole = workshop.models(tmp_path / "whole")
    undisturbed = workshop(*train_words(annotated), root=whole)
    for at in picked(undisturbed.events, 8):
        folder = workshop.models(tmp_path / f"d{at}")
        ended = workshop(*train_words(annotated), root=folder, at=at, what="ENOSPC")
        assert ended.code == 1, (at, undisturbed.events[at - 1], ended.err)
        message = told(ended)
        assert "no room in" in message
        assert ROOM in message or "CELLUNET_HOME" in message
        check_readable(folder)
        state = folder / "cells" / store.STATE_FILE
        if state.exists():
            # The last good one.
            store.read_metadata(state)
        words = train_words(annotated, *(["--resume"] if state.exists() else []))
        again = workshop(*words, root=folder)
        assert again.code == 0, (at, again.err)
        assert hashes(folder) == hashes(whole), at
        shutil.rmtree(folder.parent)


def test_an_error_within_a_checkpoint_leaves_the_one_before(
    workshop: Workshop, annotated, tmp_path
) -> None:
    root = tmp_path / "home" / "models"
    # The third event of this kind is the second epoch's.
    ended = workshop(
        *train_words(annotated),
        root=root,
        matching="cellunet.commit",
        at=3,
        what="EIO",
    )
    assert ended.code == 1
    assert "Input/output error" in told(ended)
    state = store.read_metadata(root / "cells" / store.STATE_FILE)
    assert state["epoch"] == 1
    assert workshop(*train_words(annotated, "--resume"), root=root).code == 0


class Disk:
    """A small file system of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.mount("size=512k")

    def mount(self, options: str) -> None:
        words = ["mount", "-t", "tmpfs", "-o", options, "none", str(self.path)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here ({done.stderr.strip()})")

    def now(self, options: str) -> None:
        subprocess.run(
            ["mount", "-o", f"remount,{options}", str(self.path)], check=True
        )

    def fill(self, but: int) -> None:
        """Fill it but for so many bytes."""
        page, ballast = bytes(4096), self.path / "ballast"
        with contextlib.suppress(OSError):
            file = os.open(ballast, os.O_WRONLY | os.O_CREAT)
            try:
                while os.write(file, page):
                    pass
            finally:
                os.close(file)
        os.truncate(ballast, ballast.stat().st_size - but)


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    if shutil.which("mount") is None:
        pytest.skip("there is no mount here")
    small = Disk(tmp_path / "disk")
    yield small
    subprocess.run(["umount", str(small.path)], check=True)


def test_predict_on_a_small_disk_keeps_what_fits_and_goes_on_when_there_is_room(
    workshop: Workshop, small_images, tiny_model, tmp_path, disk
) -> None:
    whole, out = tmp_path / "whole", disk.path / "out"
    workshop(*predict_words(small_images, tiny_model.folder, whole), root=whole)
    out.mkdir()
    disk.fill(but=48 * 1024)
    words = predict_words(small_images, tiny_model.folder, out)
    ended = workshop(*words, root=out)
    assert ended.code in (1, 3)
    assert f"no room in {out}" in told(ended)
    assert "MiB free" in ended.err
    found = whole_files(out)
    # What was still buffered must not be written, and fail again, on the way out.
    assert set(hashes(out)) == set(found)
    found.pop("table.csv", None)
    assert found.items() < hashes(whole).items()
    (disk.path / "ballast").unlink()
    assert workshop(*words, root=out).code == 0
    assert hashes(out) == hashes(whole)


def test_train_on_a_full_disk_says_so_and_goes_on_when_there_is_room(
    workshop: Workshop, annotated, disk
) -> None:
    models = workshop.models(disk.path / "home")
    models.mkdir(parents=True)
    disk.fill(but=16 * 1024)
    ended = workshop(*train_words(annotated), root=models)
    assert ended.code == 1
    assert "no room in" in told(ended)
    assert "--resume" in ended.err
    (disk.path / "ballast").unlink()
    state = (models / "cells" / store.STATE_FILE).exists()
    words = train_words(annotated, *(["--resume"] if state else []))
    assert workshop(*words, root=models).code == 0


def test_a_folder_that_permits_no_writing_is_one_error_before_work(
    workshop: Workshop, small_images, annotated, tiny_model, disk
) -> None:
    out = disk.path / "out"
    out.mkdir()
    disk.now("ro")
    words = predict_words(small_images, tiny_model.folder, out)
    ended = workshop(*words, root=out)
    assert ended.code == 3
    assert "permits no writing" in told(ended)
    assert "Choose another folder with --out" in ended.err
    elsewhere = predict_words(small_images, tiny_model.folder, disk.path / "new")
    ended = workshop(*elsewhere, root=out)
    assert ended.code == 1
    assert "permits no writing" in told(ended)
    workshop.models(disk.path / "home")
    ended = workshop(*train_words(annotated), root=out)
    assert ended.code == 1
    assert "CELLUNET_HOME" in told(ended)
    disk.now("rw")


def test_finished_results_in_a_folder_that_permits_no_writing_are_skipped(
    workshop: Workshop, small_images, tiny_model, disk
) -> None:
    out = disk.path / "out"
    words = ["predict", small_images, "--out", out, "--model", tiny_model.folder]
    assert workshop(*words, root=out).code == 0
    disk.now("ro")
    ended = workshop(*words, root=out)
    assert ended.code == 0, ended.err
    assert "finished before" in ended.out
    disk.now("rw")


def test_a_folder_removed_at_any_moment_is_an_error_and_no_traceback(
    workshop: Workshop, small_images, tiny_model, tmp_path
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    words = predict_words(small_images, tiny_model.folder, whole)
    undisturbed = workshop(*words, root=whole)
    words = predict_words(small_images, tiny_model.folder, out)
    events = len(undisturbed.events)
    for at in moments(events - 5, 2 * MOMENTS, 9):
        ended = workshop(*words, root=out, at=5 + at, what="remove")
        complete = ended.code == 0 and hashes(out) == hashes(whole)
        assert complete or ended.code in (1, 3), (at, ended.err)
        told(ended)
        assert complete or "removed" in ended.err, ended.err
        assert workshop(*words, root=out).code == 0
        assert hashes(out) == hashes(whole), at
        shutil.rmtree(out)


def test_a_models_folder_removed_while_training_is_no_traceback(
    workshop: Workshop, annotated, tmp_path
) -> None:
    root = tmp_path / "home" / "models"
    ended = workshop(
        *train_words(annotated), root=root, matching="open", at=6, what="remove"
    )
    assert ended.code in (0, 1), ended.err
    told(ended)
    assert ended.code == 0 or "removed" in ended.err


@pytest.mark.skipif(
    os.name != "posix" or os.getuid() == 0, reason="root may write everywhere"
)
def test_without_root_a_read_only_folder_is_named(
    workshop: Workshop, small_images, tiny_model, tmp_path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o500)
    ended = workshop(*predict_words(small_images, tiny_model.folder, out), root=out)
    out.chmod(0o700)
    assert ended.code == 3
    assert f"{out} permits no writing" in told(ended)
