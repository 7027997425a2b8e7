"""What `import art_snn` gives, and when."""

from __future__ import annotations

import ast
import configparser
import importlib
import pkgutil
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import art_snn

ROOT = Path(__file__).parent.parent
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


WATCHED = """
import builtins, sys
before, foreign = builtins.__import__, set()

def watch(name, globals=None, locals=None, fromlist=(), level=0):
    if (globals or {}).get("__name__", "").split(".")[0] == "art_snn":
        top = name.split(".")[0]
        if level == 0 and top not in {"art_snn", "art", "torch", "numpy", *sys.stdlib_module_names}:
            foreign.add((globals["__name__"], name))
    return before(name, globals, locals, fromlist, level)

builtins.__import__ = watch
"""


def test_a_classifier_needs_art_torch_and_numpy():
    """Imports of the package's own modules are looked at, those inside functions too; what ART imports is its own."""
    code = """
from art_snn import IF, LIF, EventFrames, PoissonEncoder, PyTorchSNNClassifier, SpikingNetwork
import numpy as np, torch
from torch import nn
body = nn.Sequential(nn.Linear(4, 6), LIF(), nn.Linear(6, 3))
network = SpikingNetwork(body, 4)
x, y = np.full((2, 4), 0.5, np.float32), np.eye(3, dtype=np.float32)[:2]
optimizer = torch.optim.SGD(network.parameters(), 0.1)
classifier = PyTorchSNNClassifier(network, nn.CrossEntropyLoss(), (4,), 3, optimizer, device_type="cpu")
for chain in ("hart", "stbp", "cba"):
    network.chain = chain
    assert classifier.loss_gradient(x, y).shape == x.shape
classifier.predict(x), classifier.fit(x, y, batch_size=2, nb_epochs=1)
print(sorted(foreign))
"""
    assert python(WATCHED + code).strip() == "[]"


def test_models_need_safetensors_beside_them():
    code = "from art_snn import models; models.small_cnn(); print(sorted({name.split('.')[0] for _, name in foreign}))"
    assert python(WATCHED + code).strip() == "['safetensors', 'typing_extensions']"


def test_figures_and_progress_wait_for_their_use():
    code = "from art_snn import audit, datasets, training; print(sorted({name.split('.')[0] for _, name in foreign}))"
    assert not {"matplotlib", "psutil"} & set(ast.literal_eval(python(WATCHED + code)))


def test_no_library_is_imported_before_a_network_of_it_comes():
    code = """
import torch, sys
from torch import nn
from art_snn import LIF, adapt, adapters

class Mine(nn.Module):
    def forward(self, x):
        return (x >= 1.0).to(x.dtype)

adapt(nn.Sequential(nn.Linear(4, 4), Mine()), 1, call="step", neurons={Mine: lambda m: LIF()})
print(sorted({"spikingjelly", "snntorch", "norse", "nir", "sinabs"} & set(sys.modules)))
"""
    assert python(code).strip() == "[]"


#: What a plain install leaves out.
EXTRAS = ("images", "events", "tensorboard", "spikingjelly", "snntorch", "norse", "nir", "dask")

#: What is not imported here, and why it is named all the same.
UNSEEN = {
    "multiprocess": "ART's evasion attacks import it, and ART does not say so",
    "tensorboard": "torch.utils.tensorboard imports it",
    "pyarrow": "pandas writes Parquet by it",
    "nir": "each library's own import of NIR graphs asks for it",
    "nirtorch": "each library's own import of NIR graphs asks for it",
}


def named(section: str, option: str) -> set[str]:
    """Distributions that `setup.cfg` names."""
    text = configparser.ConfigParser()
    text.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = [line.strip() for line in text[section][option].split("\n")]
    return {re.split(r"[<>=]", line)[0].lower() for line in lines if line}


def imported() -> set[str]:
    """Packages that the package imports anywhere, by their name in Python; those that are asked for by name, too."""
    found: set[str] = set()
    for path in (ROOT / "art_snn").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "optional":
                found.add(node.args[0].value.split(".")[0])
    return found - sys.stdlib_module_names - {"art_snn"}


def test_every_package_that_is_imported_is_named_and_no_other():
    plain = named("options", "install_requires")
    extras = {extra: named("options.extras_require", extra) for extra in EXTRAS}
    homes = metadata.packages_distributions() | {"tomli": ["tomli"]}  # Python 3.11 has its own
    needed = {homes[name][0].lower() for name in imported()}
    wanted = plain.union(*extras.values())
    assert wanted - needed == set(UNSEEN), "named, but not imported"
    assert needed - wanted == set(), "imported, but not named"
    assert not any(plain & extra for extra in extras.values())
