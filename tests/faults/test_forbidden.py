"""Nothing in the package unpickles, evaluates text, or looks anything up by network."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

import pytest

from cellunet import store
from cellunet.command_config import MODEL

PACKAGE = Path(store.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
FORBIDDEN_IMPORTS = {
    *("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"),
    *("urllib.request", "http", "ftplib", "requests", "httpx", "aiohttp", "yaml"),
}
FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__", "torch.load", "torch.hub.load"),
    *("torch.jit.load", "np.load", "numpy.load", "yaml.load", "os.system", "os.popen"),
    *("pickle.load", "pickle.loads", "subprocess.run", "subprocess.Popen"),
    *("socket.socket", "socket.create_connection", "pandas.read_pickle"),
}
SHIPPED_SHA256 = {
    "of the model": "3c686e4508fa79a25b5e441d7eabbf65f6fc0f7f8310656f6fc20da609c63ae8",
    "of its file": "11a1a8918dee9209ae7a9ff6635ca91a47f4cde8eea7eb638138f34c28ad4950",
}
"""Of the weights in the package, without and with the ranges for eight bits; to be
changed together with them."""


def dotted(node: ast.expr) -> str:
    """Return the name that is called: ``np.load``."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def banned(name: str) -> bool:
    """Return whether a module, or one that it lies in, must not be imported."""
    parts = name.split(".")
    return any(".".join(parts[:k]) in FORBIDDEN_IMPORTS for k in range(1, 3))


def found_in(tree: ast.Module) -> set[str]:
    """Return forbidden imports and calls."""
    found = set()
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        found |= {n for n in names if banned(n)}
        found |= {n for n in names if n in FORBIDDEN_CALLS}
        if isinstance(node, ast.Call) and dotted(node.func) in FORBIDDEN_CALLS:
            found.add(dotted(node.func))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).name)
def test_no_module_calls_what_runs_or_fetches_foreign_things(path: Path) -> None:
    assert not found_in(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from torch import load",
        "import torch\ntorch.load('x')",
        "import numpy as np\nnp.load('x', allow_pickle=False)",
        "eval('1')",
        "from urllib.request import urlopen",
        "import joblib as j",
    ],
)
def test_the_check_sees_what_it_looks_for(text: str) -> None:
    assert found_in(ast.parse(text))


def test_the_shipped_weights_are_those_that_were_tested() -> None:
    model = store.find_model(MODEL)
    digest = hashlib.sha256(model.weights.read_bytes()).hexdigest()
    assert {"of the model": model.sha256, "of its file": digest} == SHIPPED_SHA256
    assert [p.name for p in model.weights.parent.iterdir()] == [store.WEIGHTS_FILE]
