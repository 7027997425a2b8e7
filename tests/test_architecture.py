"""Imports run one way: a newcomer follows an input downwards through the modules, and never back up."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import art_snn

ROOT = Path(art_snn.__file__).parent
ENGINE = (
    *("layout", "problem", "affine", "claims", "visit", "isolate", "chunk", "compare"),
    *("collapse", "activation", "unroll", "weights", "route"),
)


def modules() -> dict[str, Path]:
    """All modules of the package by name, but for its front door, which loads each name when it is asked for."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("art_snn", *path.relative_to(ROOT).with_suffix("").parts)
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name != "art_snn":
            found[name] = path
    return found


def imported(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules that one imports anywhere: at the top, under `TYPE_CHECKING`, inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:  # a module of a folder, or a name out of a module
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
    return found & known.keys()


def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: imported(path, known) - {name} for name, path in known.items()}


def test_no_import_runs_in_a_circle():
    tuple(TopologicalSorter(graph()).static_order())  # raises CycleError, which names the modules


def test_the_engine_imports_only_what_stands_above():
    found = graph()
    engine = [f"art_snn.engine.{name}" for name in ENGINE]
    assert {name for name in found if name.startswith("art_snn.engine.")} == set(engine)
    for place, name in enumerate(engine):
        assert {other for other in found[name] if other in engine} <= set(engine[:place]), name


def test_the_engine_knows_neither_art_nor_networks_nor_chains_by_name():
    for name, others in graph().items():
        if name.startswith("art_snn.engine"):
            outside = {other for other in others if not other.startswith("art_snn.engine")}
            rooms = {"chains", "chains.state", "health", "neurons", "randomness"}
            assert outside <= {f"art_snn.{room}" for room in rooms}, name
            text = modules()[name].read_text(encoding="utf-8")
            assert "import art" not in text and "from art." not in text
            for chain in ("CBA", "HART", "STBP", "RGA", "BPTR", "Rate", "Mixed"):
                assert f"import {chain}" not in text and f"{chain}(" not in text and f", {chain}\n" not in text
