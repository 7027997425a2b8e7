"""Wheel and sdist: what is in them, and that what is in them runs."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import art_snn

ROOT = Path(__file__).parents[1]
TINY = (
    *("audit", "--epochs", "1", "--samples", "20", "--time-steps", "2", "--sweep", "0.1"),
    *("--chains", "hart", "--gamma", "1", "--attacks", "fgsm", "--plan", "none", "--no-checks", "--jobs", "1"),
)
#: Not in the tree that is built: what tools leave behind.
LEFT = (".*", "__pycache__", "build", "dist", "*.egg-info", "_build", "art-snn-audit")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    """The wheel, built from the sdist, and the sdist."""
    build = pytest.importorskip("build", reason="build is not installed: no wheel is built")
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT, folder / "tree", ignore=shutil.ignore_patterns(*LEFT))
    builder = build.ProjectBuilder(folder / "tree", runner=build_runner)
    sdist = Path(builder.build("sdist", folder / "dist"))
    with tarfile.open(sdist) as file:
        file.extractall(folder, filter="data")
    builder = build.ProjectBuilder(folder / sdist.name.removesuffix(".tar.gz"), runner=build_runner)
    return Path(builder.build("wheel", folder / "dist")), sdist


def build_runner(command, cwd=None, extra_environ=None):
    """How a builder starts the backend: without its output."""
    from pyproject_hooks import quiet_subprocess_runner

    quiet_subprocess_runner(command, cwd, extra_environ)


@pytest.fixture(scope="module")
def wheel(built) -> set[str]:
    return set(zipfile.ZipFile(built[0]).namelist())


@pytest.fixture(scope="module")
def sdist(built) -> set[str]:
    with tarfile.open(built[1]) as file:
        return {name.partition("/")[2] for name in file.getnames() if "/" in name}


def files(*folders: str) -> set[str]:
    """All files of these folders here, as sdists name them."""
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    return {
        path.relative_to(ROOT).as_posix()
        for path in paths
        if path.is_file() and not {"__pycache__", "_build"} & set(path.parts) and path.suffix != ".pyc"
    }


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    info = f"art_snn-{art_snn.__version__}.dist-info/"
    assert {name for name in wheel if not name.startswith(info)} == files("art_snn")
    assert {"art_snn/py.typed", "art_snn/audit/templates/report.html", f"{info}licenses/LICENSE"} <= wheel


def test_the_sdist_holds_what_is_needed_to_test_it(sdist):
    wanted = files("art_snn", "benchmarks", "docs", "examples", "integration_tests", "tests")
    top = {"CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"}
    assert wanted | top | {"tox.ini", "setup.cfg", "pyproject.toml"} <= sdist
    assert not [name for name in sdist if "__pycache__" in name or name.endswith(".pyc")]


def test_the_metadata_say_what_it_is(built):
    with zipfile.ZipFile(built[0]) as file:
        text = file.read(next(name for name in file.namelist() if name.endswith("/METADATA"))).decode()
    assert "\nLicense-Expression: MIT\n" in text and "\nClassifier: Typing :: Typed\n" in text
    for version in ("3.10", "3.11", "3.12", "3.13"):
        assert f"\nClassifier: Programming Language :: Python :: {version}\n" in text
    assert "Description-Content-Type: text/markdown" in text and "# art-snn" in text


def test_the_wheel_runs_where_it_is_unpacked(built, run, tmp_path):
    place = tmp_path / "place"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", place, built[0])
    done = run(*pip)
    assert done.returncode == 0, done.stderr
    command, env = place / "bin" / "art-snn", {**os.environ, "PYTHONPATH": str(place)}
    done = run(sys.executable, command, "--help", cwd=tmp_path, env=env)
    assert done.returncode == 0 and "audit" in done.stdout, done.stderr
    done = run(sys.executable, command, *TINY, "--out", "out", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "report.html").stat().st_size > 0
    where = run(sys.executable, "-c", "import art_snn; print(art_snn.__file__)", cwd=tmp_path, env=env)
    assert where.stdout.strip() == str(place / "art_snn" / "__init__.py")


@pytest.mark.skipif("ART_SNN_INSTALL" not in os.environ, reason="installs torch twice: tox -e package")
@pytest.mark.parametrize("kind", [0, 1], ids=["wheel", "sdist"])
def test_it_runs_in_an_empty_environment(kind, built, run, tmp_path):
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    for command in (
        (sys.executable, "-m", "venv", tmp_path / "venv"),
        (tmp_path / "venv" / "bin" / "pip", "install", "--quiet", built[kind]),
        (tmp_path / "venv" / "bin" / "pip", "check"),
        (tmp_path / "venv" / "bin" / "art-snn", *TINY, "--out", "out"),
    ):
        done = run(*command, cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out" / "report.html").stat().st_size > 0


@pytest.fixture(scope="module")
def citation() -> dict:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: CITATION.cff is not read")
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


class TestCitation:
    def test_it_has_the_form(self, citation):
        assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
        assert all(citation[name] for name in ("message", "title", "authors"))  # those that the format wants
        for entry in (citation, *citation["references"]):
            for author in entry["authors"]:
                assert set(author) in ({"name"}, {"given-names", "family-names"})

    def test_it_is_of_this_version(self, citation):
        assert citation["version"] == art_snn.__version__
        assert citation["license"] == "MIT"

    def test_the_paper_is_cited(self, citation):
        (paper,) = citation["references"]
        assert paper["type"] == "conference-paper" and paper["year"] == 2024
        assert [author["family-names"] for author in paper["authors"]] == ["Hao", "Bu", "Shi", "Huang", "Yu", "Huang"]


def test_what_is_supported_is_what_is_asked_for():
    """docs/support.md names the lowest versions that setup.cfg asks for."""
    page = (ROOT / "docs" / "support.md").read_text(encoding="utf-8")
    asked = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    for name in ("adversarial-robustness-toolbox", "torch", "numpy", "scipy", "pandas", "scikit-learn"):
        lowest = re.search(rf"^ +{name}>=([\d.]+)$", asked, re.M)[1]
        assert f"| `{name}` | {lowest} |" in page
    assert f"Python {re.search(r'python_requires = >=([0-9.]+)', asked)[1]} " in page
