"""The versions that messages call tested are those that the bounds permit."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from cellunet import __version__
from cellunet.bugs import TESTED, _numbers, installed, outside_tested

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
RECIPE = (PROJECT.parent / "packaging" / "conda" / "recipe.yaml").read_text(
    encoding="utf-8"
)


def test_the_oldest_tested_version_is_the_lower_bound():
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *(d for e in extras.values() for d in e)]
    bounds = dict(d.split(">=") for d in asked if re.fullmatch(r"[\w-]+>=[\d.]+", d))
    for package, (oldest, newest) in TESTED.items():
        assert _numbers(bounds[package]) == _numbers(oldest), package
        assert _numbers(oldest) < _numbers(newest)


@pytest.mark.parametrize(
    ("oldest", "newest", "told"),
    [("0", "99999", 0), ("0", "0.1", 1), ("99998", "99999", 1)],
)
def test_a_version_outside_is_told(monkeypatch, oldest, newest, told):
    monkeypatch.setattr("cellunet.bugs.TESTED", {"numpy": (oldest, newest)})
    assert len(outside_tested()) == told


def test_what_is_not_there_has_no_version():
    assert installed("no-such-package") is None


def test_one_version_is_named_everywhere():
    changes = (PROJECT.parent / "CHANGELOG.md").read_text(encoding="utf-8")
    citation = (PROJECT.parent / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(\d.*?)\]", changes, re.M)[0] == __version__
    assert re.findall(r"^version: (.*)", citation, re.M) == [__version__]
    assert re.findall(r'^  version: "(.*)"', RECIPE, re.M) == [__version__]


def test_the_recipe_asks_for_what_the_wheel_asks_for():
    asked = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    block = RECIPE.partition("  run:\n")[2].partition("  run_constraints:")[0]
    python, *libraries = re.findall(r"- (.*)", block)
    assert python == "python >=${{ python_min }}"
    assert f'python_min: "{asked["requires-python"].removeprefix(">=")}"' in RECIPE
    # Conda's name for matplotlib without Qt.
    theirs = [
        name.replace(" ", "").replace("matplotlib-base", "matplotlib")
        for name in libraries
    ]
    assert theirs == asked["dependencies"]
