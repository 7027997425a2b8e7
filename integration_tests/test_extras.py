"""What each extra is for works with it, and what lacks one says which.

Every test is of what is installed. `ART_SNN_EXTRA` names the one extra of an environment, or "plain" for none, so that
an environment that has too little or too much is found; tox sets it.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from art_snn import datasets
from art_snn.audit import AuditSettings, run_audit
from art_snn.training import TrainSettings, train

ROOT = Path(__file__).parents[1]
#: The modules that show that an extra is installed.
MODULES = {
    "images": ("torchvision", "PIL"),
    "events": ("tonic", "aedat"),
    "tensorboard": ("tensorboard",),
    "spikingjelly": ("spikingjelly",),
    "snntorch": ("snntorch",),
    "norse": ("norse",),
    "dask": ("distributed",),
    "nir": ("nir", "nirtorch"),
}
LIBRARIES = ("spikingjelly", "snntorch", "norse")
AUDIT = AuditSettings(
    epochs=1,
    samples=20,
    time_steps=2,
    sweep=(),
    chains=("hart",),
    gamma=1.0,
    attacks=("fgsm",),
    plan="none",
    checks=False,
)
TRAIN = TrainSettings(data="digits", epochs=1, width=0.25, time_steps=2, held_out=20)


def has(extra: str) -> bool:
    return all(find_spec(module) for module in MODULES[extra])


def with_extra(extra: str):
    return pytest.mark.skipif(not has(extra), reason=f"the extra {extra} is not installed")


def without(extra: str):
    return pytest.mark.skipif(has(extra), reason=f"the extra {extra} is installed")


@pytest.mark.skipif("ART_SNN_EXTRA" not in os.environ, reason="not in an environment of one extra")
def test_the_environment_is_what_it_says():
    wanted = os.environ["ART_SNN_EXTRA"]
    if wanted == "plain":
        assert [extra for extra in MODULES if has(extra)] == []
    else:
        assert has(wanted)


def test_an_audit_needs_no_extra(tmp_path):
    result = run_audit(AUDIT, tmp_path)
    assert {row.attack for row in result.rows} == {"fgsm"}


def image_root(tmp_path: Path) -> Path:
    """Four images in two classes, train and test."""
    from PIL import Image

    for part in ("train", "test"):
        for name, value in (("dark", 10), ("light", 200)):
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(2):
                Image.new("RGB", (8, 8), (value,) * 3).save(tmp_path / part / name / f"{index}.png")
    return tmp_path


@with_extra("images")
def test_images_reads_a_folder(tmp_path):
    (x, y), _, low, high = datasets.image_folder(image_root(tmp_path))
    assert x.shape == (4, 3, 8, 8) and (low, high) == (0.0, 1.0)
    assert x[y.argmax(1) == 1].min() > x[y.argmax(1) == 0].max()


@without("images")
@pytest.mark.parametrize("loader", [datasets.cifar10, datasets.cifar100, datasets.image_folder])
def test_images_is_named(loader, tmp_path):
    for part in ("train", "test"):
        (tmp_path / part / "a").mkdir(parents=True)
    with pytest.raises(ImportError, match=r"pip install 'art-snn\[images\]'"):
        loader(tmp_path)


def event_root(tmp_path: Path) -> Path:
    """A recording of five events for each class and part of N-MNIST: bytes x, y, polarity and time."""
    events = np.array([[3, 4, 0x80, 0, t] for t in range(5)], np.uint8).tobytes()
    for part in ("Train", "Test"):
        for digit in range(10):
            path = tmp_path / "NMNIST" / part / str(digit) / "00000.bin"
            path.parent.mkdir(parents=True)
            path.write_bytes(events)
    return tmp_path


@with_extra("events")
def test_events_reads_recordings(tmp_path):
    (x, _), _, _, _ = datasets.nmnist(event_root(tmp_path), time_steps=2, cache_dir=tmp_path / "cache")
    assert x.shape == (10, 2, 2, 34, 34)
    assert 0 < x.sum((1, 2, 3, 4)).min() == x.sum((1, 2, 3, 4)).max() <= 5


@without("events")
def test_events_is_named(tmp_path):
    with pytest.raises(ImportError, match=r"pip install 'art-snn\[events\]'"):
        datasets.nmnist(event_root(tmp_path), time_steps=2, cache_dir=tmp_path / "cache")


@with_extra("tensorboard")
def test_tensorboard_gets_figures(tmp_path):
    train(TRAIN, tmp_path, tensorboard=True)
    assert list((tmp_path / "tensorboard").iterdir())


@without("tensorboard")
def test_tensorboard_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"pip install 'art-snn\[tensorboard\]'"):
        train(TRAIN, tmp_path, tensorboard=True)


@with_extra("dask")
def test_dask_audits(tmp_path):
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        there = run_audit(AUDIT, tmp_path / "there", cluster=cluster.scheduler_address)
    assert there.rows == run_audit(AUDIT, tmp_path / "here").rows


@without("dask")
def test_dask_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"pip install 'art-snn\[dask\]'"):
        run_audit(AUDIT, tmp_path, cluster="tcp://127.0.0.1:1")


@pytest.mark.skipif("ART_SNN_EXTRA" not in os.environ, reason="test_examples.py runs it")
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_network_of_the_library_is_attacked(library, run):
    if not has(library):
        pytest.skip(f"the extra {library} is not installed")
    done = run(sys.executable, "-W", "ignore", ROOT / "examples" / f"attack_{library}.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("clean accuracy") and "native" in done.stdout


@with_extra("nir")
def test_nir_writes_and_reads_a_graph(tmp_path):
    import nir

    nir.write(tmp_path / "graph.nir", nir.NIRGraph.from_list(nir.Linear(weight=np.ones((2, 3)))))
    read = nir.read(tmp_path / "graph.nir")
    assert {type(node).__name__ for node in read.nodes.values()} == {"Input", "Linear", "Output"}
