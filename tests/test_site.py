"""The site is built without a warning, and a broken link is one."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

import cellunet
from cellunet.cli.app import make_app

pytest.importorskip("mkdocs")
pytest.importorskip("nbconvert")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
CHECKOUT = ("docs", "examples", "benchmarks", "cellunet", "mkdocs.yml")


def build(root: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=root,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT, out)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return out


def plain(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


def text(page: Path) -> str:
    return plain(page.read_text(encoding="utf-8"))


def test_the_command_line_is_there_whole(site: Path) -> None:
    whole = (site / "cli.html").read_text(encoding="utf-8")
    # Each command by the text below its own heading, up to the next one.
    parts = re.split(r"<h[1-6][^>]*>(.*?)</h[1-6]>", whole, flags=re.DOTALL)
    heads = [" ".join(plain(part).replace("¶", "").split()) for part in parts[1::2]]
    sections = dict(zip(heads, map(plain, parts[2::2]), strict=True))

    def missing(command: Any, name: str) -> list[str]:
        names = [o for p in command.params if not getattr(p, "hidden", False)
                 for o in p.opts if o.startswith("--")]  # fmt: skip
        if name not in sections:
            return [name]
        shown = set(re.findall(r"--[a-z][\w-]*", sections[name]))
        found = [f"{name} {option}" for option in names if option not in shown]
        for inner in getattr(command, "commands", {}).values():
            found += missing(inner, f"{name} {inner.name}")
        return found

    assert missing(typer.main.get_command(make_app()), "cellunet") == []


def test_every_public_name_is_documented(site: Path) -> None:
    pages = [site / name for name in ("api.html", "api-settings.html")]
    ids = set(re.findall(r'id="([^"]+)"', "".join(p.read_text("utf-8") for p in pages)))
    # Under its public name, or where it is defined.
    homes = {n: f"{getattr(cellunet, n).__module__}.{n}" for n in cellunet.__all__}
    missing = [n for n in homes if not ids & {f"cellunet.{n}", homes[n]}]
    assert missing == []


def test_every_setting_is_explained(site: Path) -> None:
    page = " ".join(text(site / "api-settings.html").split())
    from cellunet.command_config import PredictConfig
    from cellunet.config import TrainConfig
    from cellunet.settings import known_of

    for kind in (PredictConfig, TrainConfig):
        for name, field in kind.__dataclass_fields__.items():
            first = known_of(field).help.replace("`", "").split(".")[0]
            assert " ".join(first.split()) in page, name


def test_the_site_needs_no_other_server(site: Path) -> None:
    loads = re.compile(r'<(?:script|link|img)\b[^>]*(?:src|href)="(?:https?:)?//')
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    assert [p.name for p in pages if loads.search(p.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("[gone](gone.md)", "gone.md"),
        ("[sizes](sizes.md#nowhere)", "#nowhere"),
        ('<img src="https://example.org/a.png">', "another server"),
    ],
)
def test_a_bad_link_fails_the_build(tmp_path: Path, words: str, said: str) -> None:
    for name in CHECKOUT:
        kept = shutil.ignore_patterns("*.safetensors", "__pycache__")
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=kept)
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    for page in ROOT.glob("*.md"):
        shutil.copy(page, tmp_path)
    with (tmp_path / "docs" / "faq.md").open("a", encoding="utf-8") as file:
        file.write(f"\n{words}\n")
    done = build(tmp_path, tmp_path / "out")
    assert done.returncode != 0
    assert said in done.stderr


def test_notebooks_are_kept_as_they_were_executed() -> None:
    nbformat = pytest.importorskip("nbformat")
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        cells = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
        counts = [cell.execution_count for cell in cells]
        assert counts == list(range(1, len(cells) + 1)), path.name
        outputs = [output for cell in cells for output in cell.outputs]
        assert all(output.output_type != "error" for output in outputs), path.name
        assert path.stat().st_size < 400_000
