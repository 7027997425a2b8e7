"""What `import art_snn` gives, and when."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import art_snn

ROOMS = sorted(module.name for module in pkgutil.iter_modules(art_snn.__path__) if not module.name.startswith("_"))


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_rooms_are_there_without_an_import_of_their_own():
    code = f"import art_snn; print([getattr(art_snn, name).__name__ for name in {ROOMS}])"
    assert {"models", "datasets", "chains"} <= set(ROOMS)
    assert python(code).strip() == str([f"art_snn.{name}" for name in ROOMS])


def test_they_are_imported_when_they_are_first_used():
    code = "import sys, art_snn; dir(art_snn); print(sorted(m for m in sys.modules if m.startswith('art_snn')))"
    assert python(code).strip() == "['art_snn', 'art_snn._version']"
    assert python("import sys, art_snn; dir(art_snn); print('torch' in sys.modules)").strip() == "False"


def test_dir_lists_them_beside_the_public_names():
    assert {*ROOMS, *art_snn.__all__} <= set(dir(art_snn))


@pytest.mark.parametrize("name", ROOMS)
def test_they_are_the_modules_themselves(name):
    assert getattr(art_snn, name) is importlib.import_module(f"art_snn.{name}")


@pytest.mark.parametrize("name", ["nowhere", "_version_", "os"])
def test_what_is_not_there_is_named(name):
    with pytest.raises(AttributeError, match=name):
        getattr(art_snn, name)
