"""The pages hang together: links, figures, and what they say of files and errors. `tox -e docs` builds them."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import click
import pytest

import art_snn
from art_snn.audit import cells, compare, entry, files
from art_snn.cli import main
from art_snn.models import storage
from art_snn.suites import run as suites

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
LINK = re.compile(r"(?P<image>!?)\[(?P<words>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def prose(text: str) -> str:
    """A page without its code."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return re.sub(r"(?<=\n\n)(?:    [^\n]*\n)+", "", text)


def anchors(text: str) -> set[str]:
    """Names of a page's headings, as code hosts and MyST make them."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def strings() -> list[str]:
    """All texts of the package, an ellipsis where something is filled in."""
    found = []
    for path in (ROOT / "art_snn").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub("%[sdr]", "…", node.value))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in LINK.finditer(prose(PAGES[page])):
        target, _, anchor = link["target"].partition("#")
        if "://" in target:
            continue
        assert not target or (DOCS / target).is_file(), link[0]
        if anchor:
            assert anchor in anchors(PAGES[target or page]), link[0]


@pytest.mark.parametrize("page", PAGES)
def test_every_figure_says_in_words_what_it_shows(page):
    for link in LINK.finditer(prose(PAGES[page])):
        assert not link["image"] or len(link["words"].split()) > 5, link[0]


def test_every_drawn_figure_is_shown():
    shown = {link["target"] for text in PAGES.values() for link in LINK.finditer(text) if link["image"]}
    assert {f"figures/{path.name}" for path in (DOCS / "figures").iterdir()} == shown


def test_every_page_has_its_place():
    trees = re.findall(r"^```{toctree}\n(.*?)^```$", PAGES["index.md"], re.M | re.S)
    listed = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    assert sorted(f"{name}.md" for name in [*listed, "index"] if name != "tour") == list(PAGES)
    assert "tour" in listed and (DOCS / "tour.ipynb").is_file()


def test_every_command_has_its_options_on_the_page():
    commands = set(re.findall(r"^```{options} (\w+)$", PAGES["options.md"], re.M))
    with_options = {name for name in main.commands if name != "report"}
    assert commands == with_options


@pytest.mark.parametrize("name", sorted(main.commands))
def test_options_are_told_as_the_command_has_them(name, monkeypatch):
    pytest.importorskip("sphinx")  # `tox -e docs` has it
    pytest.importorskip("latex2mathml")
    monkeypatch.syspath_prepend(DOCS)
    extension = importlib.import_module("extension")
    context = click.Context(main.commands[name])
    for option in extension.parameters(name):
        written, default, text = extension.row(option, context)
        assert written.startswith("--") and text and "[default" not in text
        given = option.default if isinstance(option.default, (str, int, float, Path)) else None
        if not option.is_flag and not option.required and "[default: " not in (option.help or ""):
            assert default == ("" if given is None else str(given)), written


def test_every_public_name_has_its_entry():
    rooms = set(re.findall(r"^\.\. automodule:: art_snn\.(\w+)$", PAGES["api.md"], re.M))
    named = set(re.findall(r"^\.\. auto(?:class|function):: art_snn\.(\w+)$", PAGES["api.md"], re.M))
    assert named == {*art_snn.__all__} - {"__version__"}
    public = {name for name in dir(art_snn) if hasattr(getattr(art_snn, name), "__all__")} - {"settings"}
    assert rooms == (public | {"surrogates", "theory"})


def test_the_errors_are_those_of_the_package():
    texts = strings()
    headings = re.findall(r"^#### `(.+)`$", PAGES["errors.md"], re.M)
    assert len(headings) > 20
    for heading in headings:
        pattern = re.compile(".+".join(map(re.escape, heading.split("…"))))
        assert any(pattern.search(text) for text in texts), heading


def test_the_versions_of_files_are_those_of_the_package():
    rows = re.findall(r"^\| `?([\w./*]+)`? \| .+? \| (\d+) \| .*\|$", PAGES["reference.md"], re.M)
    assert dict(rows) == {
        "results.json": str(files.SCHEMA),
        "cells/*.json": str(cells.SCHEMA),
        "entry.json": str(entry.SCHEMA),
        "comparison": str(compare.COMPARISON_SCHEMA),
        "network.json": str(storage.SCHEMA),
        "SUITE.json": str(suites.SCHEMA),
    }


def test_every_environment_variable_is_named():
    used = set()
    for path in (*(ROOT / "art_snn").rglob("*.py"), *(ROOT / "tests").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        used |= set(re.findall(r'environ(?:\.get\(|\[|.*in os\.environ)"(\w+)"', text))
        used |= set(re.findall(r'"(\w+)" (?:not )?in os\.environ', text))
    assert used and used <= set(re.findall(r"`([A-Z_]+)`", PAGES["reference.md"]))


def test_readme_can_be_read_where_no_page_lies_beside_it():
    """On a package index nothing does: names of files are words there, and a figure says what it shows."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for link in LINK.finditer(readme):
        assert "://" in link["target"] or link["image"], link[0]
        assert not link["image"] or ((ROOT / link["target"]).is_file() and len(link["words"].split()) > 5)
    pages = set(re.findall(r"`(\w+\.md)`", readme))
    assert pages and {*pages, "index.md", "examples.md", *ADAPT} == {*PAGES, *ADAPT}


#: One page for each library, which adapt.md leads to.
ADAPT = {name for name in PAGES if name.startswith("adapt_")}
