"""The layers: imports only point down, and heavy packages stay where they belong.

Every import statement counts, those inside functions and under ``TYPE_CHECKING`` too:
a type that points up is a dependency as well.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "cellunet"
LAYERS = {
    "errors": 0,
    "progress": 0,
    "bugs": 1,
    "settings": 1,
    "ranks": 1,
    "config": 1,
    "command_config": 1,
    "config_file": 1,
    "presets": 1,
    "io": 2,
    "imaging": 3,
    "annotations": 4,
    "metrics": 5,
    "outputs": 6,
    "store": 7,
    "models": 7,
    "engine": 8,
    "core": 9,
    "tasks": 10,
    "cli": 11,
    "napari": 11,
}
"""Part of the package to its layer. The root of the package, which resolves the public
names lazily, and ``__main__`` stand outside: nothing but the version may be imported
from them."""
ROOT = {"cellunet", "cellunet.__main__"}
STANDARD_LIBRARY_ONLY = {
    "errors",
    "bugs",
    "settings",
    "ranks",
    "config",
    "command_config",
    "config_file",
    "presets",
    "progress",
}
AT_HOME = {
    "torch": {"core"},
    "typer": {"cli"},
    "rich": {"cli"},
    "click": set[str](),
    "napari": {"napari"},
    "magicgui": {"napari"},
    "qtpy": {"napari"},
    "pandas": {"napari"},
    "onnxruntime": {"engine"},
    "skimage": set[str](),
    "roifile": {"annotations", "outputs"},
    "pyarrow": {"outputs"},
    "platformdirs": {"store"},
    "distributed": {"tasks"},
}
"""Package to the only parts that may import it, for its types aside."""


@dataclass(frozen=True)
class Import:
    """One import statement."""

    module: str
    """Dotted name of the module that imports."""
    imported: str
    """Dotted name of what is imported."""
    line: int
    for_types: bool
    """Whether it stands under ``TYPE_CHECKING``, and so never runs."""

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.imported}"


def _module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _type_lines(tree: ast.Module) -> set[int]:
    """Return the lines that stand under ``if TYPE_CHECKING:``."""
    blocks = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    ]
    return {
        line
        for block in blocks
        for line in range(block.lineno, (block.body[-1].end_lineno or 0) + 1)
    }


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def _imports() -> tuple[Import, ...]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module, tree = _module(path), _tree(path)
        types = _type_lines(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = "." * node.level + (node.module or "")
                names = [f"{base}.{alias.name}" for alias in node.names]
            else:
                continue
            found += [
                Import(module, name, node.lineno, node.lineno in types)
                for name in names
            ]
    return tuple(found)


def _part(module: str) -> str:
    """Return the part of the package that a module lies in: ``imaging``."""
    return module.split(".")[1] if "." in module else ""


def _inside() -> list[Import]:
    """Return imports of one part of the package from another, the root's aside."""
    return [
        i
        for i in _imports()
        if i.imported.split(".")[0] == "cellunet"
        and i.module not in ROOT
        and i.imported not in {"cellunet", "cellunet.__version__"}
    ]


def _listed(broken: list[Import]) -> str:
    return "\n" + "\n".join(map(str, broken))


def _broken_home(package: str, parts: set[str]) -> list[Import]:
    return [
        i
        for i in _imports()
        if f"{i.imported}.".startswith(f"{package}.")
        and _part(i.module) not in parts
        and not i.for_types
    ]


def test_every_module_has_a_layer() -> None:
    modules = {_module(path) for path in PACKAGE.rglob("*.py")} - ROOT
    assert {_part(module) for module in modules} == set(LAYERS)


def test_no_import_is_relative() -> None:
    broken = [i for i in _imports() if i.imported.startswith(".")]
    assert not broken, _listed(broken)
    assert len(_imports()) > 100


def test_imports_only_point_down() -> None:
    broken = [
        i
        for i in _inside()
        if LAYERS.get(_part(i.imported), 99) > LAYERS[_part(i.module)]
    ]
    assert not broken, _listed(broken)


def test_parts_of_one_layer_do_not_import_each_other_both_ways() -> None:
    across = [i for i in _inside() if _part(i.module) != _part(i.imported)]
    ways = {(_part(i.module), _part(i.imported)) for i in across}
    broken = [i for i in across if (_part(i.imported), _part(i.module)) in ways]
    assert not broken, _listed(broken)


def test_nothing_but_the_version_comes_from_the_root() -> None:
    # `from cellunet import store` names a part; anything else would be a public name.
    broken = [i for i in _inside() if _part(i.imported) not in LAYERS]
    assert not broken, _listed(broken)
    for path in PACKAGE.rglob("*.py"):
        used = {
            node.attr
            for node in ast.walk(_tree(path))
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "cellunet"
        }
        assert used <= {"__version__", *LAYERS}, path


def test_the_lowest_layers_need_the_standard_library_alone() -> None:
    broken = [
        i
        for i in _imports()
        if _part(i.module) in STANDARD_LIBRARY_ONLY
        and i.imported.split(".")[0] not in {*sys.stdlib_module_names, "cellunet"}
    ]
    assert not broken, _listed(broken)


@pytest.mark.parametrize(("package", "parts"), AT_HOME.items())
def test_heavy_packages_stay_where_they_belong(package: str, parts: set[str]) -> None:
    broken = _broken_home(package, parts)
    assert not broken, _listed(broken)


def test_weights_are_read_into_torch_in_core_alone() -> None:
    broken = _broken_home("safetensors.torch", {"core"})
    assert not broken, _listed(broken)


def test_modules_that_run_at_import_do_not_import_in_a_circle() -> None:
    """No module reaches itself through imports at its top level."""
    top: dict[str, set[str]] = defaultdict(set)
    modules = {_module(path): path for path in PACKAGE.rglob("*.py")}
    for module, path in modules.items():
        for node in _tree(path).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                top[module] |= {n if n in modules else node.module for n in names}
    for module in modules:
        seen: set[str] = set()
        ahead = list(top[module])
        while ahead:
            one = ahead.pop()
            if one not in seen:
                seen.add(one)
                ahead += top[one]
        assert module not in seen, f"{module} imports itself through others"


def test_the_name_of_a_class_means_one_thing() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for path in PACKAGE.rglob("*.py"):
        for node in _tree(path).body:
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(_module(path))
    assert {n: found for n, found in homes.items() if len(found) > 1} == {}
