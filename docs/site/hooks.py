"""What MkDocs builds from the repository: the command line, pages beside docs/.

The reference of the command line is written from the Typer app, notebooks become pages,
and links that lead out of docs/ lead to a copy of what they name.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import nbformat
import typer
import yaml
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, InclusionLevel
from nbconvert import MarkdownExporter

from cellunet.cli.app import make_app

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PROJECT = ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")


REMOTE = re.compile(r'<(?:script|link|img)\b[^>]*(?:src|href)="(?:https?:)?//[^>]*>')


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put pages that the navigation does not name at the end of the guides."""
    named = yaml.dump(config.nav)
    for path in sorted(DOCS.glob("*.md")):
        if path.name not in named:
            config.nav[1]["Guides"].append(path.name)
    return config


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse pages that load anything from another server."""
    for page in Path(config.site_dir).rglob("*.html"):
        for found in REMOTE.findall(page.read_text(encoding="utf-8")):
            raise PluginError(f"{page.name} loads from another server: {found}")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add pages that docs/ does not hold, and the files that pages link to."""
    files.append(File.generated(config, "cli.md", content=command_line()))
    for name in PROJECT:
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, f"project/{name}", content=text))
    for path in sorted((DOCS / "notebooks").glob("*.ipynb")):
        _add_notebook(path, files, config)
    for page in [*files.documentation_pages()]:
        for target in linked(page.content_string, origin_of(page.src_uri)):
            uri = site_uri(target)
            if (
                not target.is_relative_to(DOCS)
                and files.get_file_from_path(uri) is None
            ):
                file = File.generated(
                    config,
                    uri,
                    abs_src_path=str(target),
                    inclusion=InclusionLevel.NOT_IN_NAV,
                )
                files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:  # noqa: ANN401
    """Point links that lead out of docs/ to the copy within the site."""
    origin = origin_of(page.file.src_uri)
    here = PurePosixPath(page.file.src_uri).parent

    def within(match: re.Match[str]) -> str:
        target = _target(match[2], origin)
        if target is None:
            return match[0]
        return f"{match[1]}{os.path.relpath(site_uri(target), here)}{match[3]}"

    return LINK.sub(within, markdown)


def origin_of(uri: str) -> Path:
    """Return the file of the repository that a page was made of."""
    name = uri.removeprefix("project/")
    return ROOT / name if name in PROJECT else DOCS / uri


def site_uri(path: Path) -> str:
    """Return where the site holds a file of the repository."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix().replace(".ipynb", ".md")
    return f"project/{path.relative_to(ROOT).as_posix()}"


def linked(markdown: str, origin: Path) -> set[Path]:
    """Return the files of the repository that a page links to."""
    found = {_target(match[2], origin) for match in LINK.finditer(markdown)}
    return {path for path in found if path is not None}


def _target(link: str, origin: Path) -> Path | None:
    if ":" in link or link.startswith("/"):
        return None
    path = (origin.parent / link).resolve()
    return path if path.is_file() and path.is_relative_to(ROOT) else None


def _add_notebook(path: Path, files: Files, config: MkDocsConfig) -> None:
    notebook = nbformat.read(path, as_version=4)
    uri = f"notebooks/{path.name}"
    files.remove(files.get_file_from_path(uri))
    text, resources = MarkdownExporter().from_notebook_node(notebook)
    for name, content in resources["outputs"].items():
        picture = f"notebooks/{path.stem}-{name}"
        files.append(File.generated(config, picture, content=content))
        text = text.replace(f"]({name})", f"]({path.stem}-{name})")
    page = uri.replace(".ipynb", ".md")
    files.append(File.generated(config, page, content=text))


@cache
def command_line() -> str:
    """Return the reference of all commands as Markdown."""
    lines = [
        "# Command line",
        "",
        "Written from the program itself, at the time of the build. "
        "`cellunet COMMAND --help` says the same.",
        "",
    ]
    return "\n".join(
        [*lines, *_command(typer.main.get_command(make_app()), "cellunet", 2)]
    )


def _command(command: Any, name: str, level: int) -> list[str]:  # noqa: ANN401
    lines = [f"{'#' * level} {name}", "", _plain(command.help or ""), ""]
    panels: dict[str, list[Any]] = {}
    for option in command.params:
        panel = getattr(option, "rich_help_panel", None) or "Options"
        if not getattr(option, "hidden", False):
            panels.setdefault(panel, []).append(option)
    for panel, options in panels.items():
        lines += [f"| {panel} | |", "| --- | --- |"]
        lines += [_row(option) for option in options]
        lines += [""]
    for child in getattr(command, "commands", {}).values():
        lines += _command(child, f"{name} {child.name}", min(level + 1, 3))
    return lines


def _row(option: Any) -> str:  # noqa: ANN401
    names = ", ".join([*option.opts, *option.secondary_opts])
    if option.param_type_name == "argument":
        names = option.metavar or option.name.upper()
    elif option.metavar:
        names += f" {option.metavar}"
    words = _plain(option.help or "")
    # A bar within code would end the cell.
    return f"| <code>{_plain(names)}</code> | {words} |"


def _plain(text: str) -> str:
    text = " ".join(re.sub(r"\[/?[a-z]+\]", "", text).split())
    return text.replace("|", "&#124;").replace("<", "&lt;")
