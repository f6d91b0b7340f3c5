"""The public surface is small, complete and lazily resolved."""

import pytest

import cellunet


def test_every_public_name_resolves() -> None:
    for name in cellunet.__all__:
        assert getattr(cellunet, name) is not None


def test_the_table_of_homes_is_the_public_list() -> None:
    assert sorted(cellunet._HOMES) == sorted(cellunet.__all__)
    assert set(cellunet.__all__) <= set(dir(cellunet))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'unet'"):
        _ = cellunet.unet
