"""Channels that are named as a model knows them, but not in its order, are refused."""

from __future__ import annotations

import pytest

from cellunet.errors import ConfigError
from cellunet.tasks.predict.inputs import option, refuse_other_order

KNOWN = ("DAPI", "GFP")


@pytest.mark.parametrize(
    ("found", "asked", "right"),
    [
        (("GFP", "DAPI"), "GFP,DAPI", "DAPI,GFP"),
        (("gfp", "dapi"), "gfp,dapi", "DAPI,GFP"),
        (("DAPI", "RFP", "GFP"), "DAPI,RFP,GFP", "DAPI,GFP,RFP"),
    ],
)
def test_another_order_is_refused_with_the_right_one(found, asked, right) -> None:
    with pytest.raises(ConfigError, match="in this order") as caught:
        refuse_other_order(found, KNOWN, "two", asked)
    assert f"Try: --channel {right}." in caught.value.hint


@pytest.mark.parametrize(
    ("found", "asked"),
    [
        (("DAPI", "GFP"), "DAPI,GFP"),
        (("DAPI", "GFP", "RFP"), "DAPI,GFP,RFP"),
        (("Hoechst", "FITC"), "Hoechst,FITC"),
        (("GFP", "RFP"), "GFP,RFP"),
        # By number, or found by name as the model knows them.
        (("GFP", "DAPI"), "1, 0"),
        (("DAPI", "GFP"), None),
    ],
)
def test_other_names_and_numbers_are_taken(found, asked) -> None:
    refuse_other_order(found, KNOWN, "two", asked)
    refuse_other_order(found, (), "one", asked)


def test_the_option_is_as_a_shell_takes_it() -> None:
    assert option(KNOWN) == "--channel DAPI,GFP"
    assert option(("Alexa 488", "DAPI")) == "--channel 'Alexa 488,DAPI'"
