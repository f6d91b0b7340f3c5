"""SIGINT and SIGTERM: saved and gone, within a step or two seconds of computing.

Signals come at changes of files and at times drawn uniformly. What a command does after
one is measured in seconds of the processor, which a busy machine does not lengthen.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from cellunet import store
from tests.faults.conftest import MOMENTS, Workshop, hashes, moments
from tests.faults.test_kill import check_readable, predict_words, train_words

CODES = {"SIGINT": 130, "SIGTERM": 143}
MOST_S = 2.0


def rounds(events: int, seconds: float, seed: int) -> list[dict[str, object]]:
    """Return when which signal comes: at events, and at times."""
    rng = np.random.default_rng(seed)
    names = sorted(CODES)
    plan: list[dict[str, object]] = [
        {"at": k, "what": names[k % 2]} for k in moments(events, MOMENTS, seed)
    ]
    for s in rng.uniform(0, seconds, MOMENTS):
        plan.append({"after_s": [float(s)], "signal": names[len(plan) % 2]})
    return plan


def expected_code(moment: dict[str, object]) -> int:
    return CODES[str(moment.get("what") or moment["signal"])]


@pytest.mark.parametrize("kind", ["many", "large"])
def test_predict_ends_where_it_can_and_finishes_when_run_again(
    workshop: Workshop, small_images, large_field, tiny_model, tmp_path, kind
) -> None:
    images = small_images if kind == "many" else large_field
    whole, out = tmp_path / "whole", tmp_path / "out"
    undisturbed = workshop(*predict_words(images, tiny_model.folder, whole), root=whole)
    for moment in rounds(len(undisturbed.events), undisturbed.seconds, 5):
        words = predict_words(images, tiny_model.folder, out)
        ended = workshop(*words, root=out, **moment)
        # A signal at the very end, or before anybody listens, changes nothing or ends
        # the process by itself.
        codes = {expected_code(moment), 0, -2, -15}
        assert ended.code in codes, (moment, ended.err)
        if "at" in moment and ended.code != 0:
            assert "stopped" in ended.err
        assert ended.after_signal_s is None or ended.after_signal_s < MOST_S, moment
        check_readable(out)
        again = workshop(*words, root=out)
        assert again.code == 0, (moment, again.err)
        assert hashes(out) == hashes(whole), moment
        shutil.rmtree(out)


def test_train_saves_and_resumes_to_the_same_bytes(
    workshop: Workshop, annotated, tmp_path
) -> None:
    whole = workshop.models(tmp_path / "whole")
    undisturbed = workshop(*train_words(annotated), root=whole)
    plan = rounds(len(undisturbed.events), undisturbed.seconds, 6)
    for number, moment in enumerate(plan):
        folder = workshop.models(tmp_path / f"s{number}")
        ended = workshop(*train_words(annotated), root=folder, **moment)
        assert ended.code in {expected_code(moment), 0, -2, -15}, (moment, ended.err)
        assert ended.after_signal_s is None or ended.after_signal_s < MOST_S, moment
        check_readable(folder)
        if ended.code != 0:
            state = (folder / "cells" / store.STATE_FILE).is_file()
            words = train_words(annotated, *(["--resume"] if state else []))
            ended = workshop(*words, root=folder)
        assert ended.code == 0, (moment, ended.err)
        assert hashes(folder) == hashes(whole), moment
        shutil.rmtree(folder.parent)


@pytest.mark.parametrize("name", sorted(CODES))
def test_a_second_signal_ends_a_training_at_once(
    workshop: Workshop, annotated, tmp_path, name
) -> None:
    root = tmp_path / "home" / "models"
    ended = workshop(
        *train_words(annotated),
        root=root,
        matching="cells",
        at=20,
        what=f"{name} twice",
    )
    assert ended.code == CODES[name]
    assert "Stopped at once" in ended.document["error"]["message"]
    assert "go on with: cellunet train" in ended.err
    check_readable(root)


def test_a_signal_while_images_are_read_ends_a_training_at_once(
    workshop: Workshop, annotated, tmp_path
) -> None:
    root = tmp_path / "home" / "models"
    ended = workshop(*train_words(annotated), root=root, at=4, what="SIGINT")
    assert ended.code == 130
    assert ended.document["result"] is None
    assert hashes(root) == {}
