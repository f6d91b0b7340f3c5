"""Choices are looked up, or refused with those that there are."""

from __future__ import annotations

import pytest

from cellunet.errors import ConfigError, choose

TABLE = {"cross-entropy": 1, "dice": 2}


def test_a_known_name_is_found() -> None:
    assert choose(TABLE, "dice", "loss") == 2


def test_an_unknown_name_is_refused_with_the_known() -> None:
    with pytest.raises(ConfigError) as caught:
        choose(TABLE, "focal", "loss")
    assert caught.value.message == "Unknown loss 'focal'."
    assert caught.value.hint == "Known: cross-entropy, dice."


def test_a_near_miss_is_pointed_out() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'dice'") as caught:
        choose(TABLE, "dise", "loss")
    assert caught.value.hint == "Did you mean 'dice'? Known: cross-entropy, dice."


def test_names_are_exact() -> None:
    with pytest.raises(ConfigError):
        choose(TABLE, "Dice", "loss")
