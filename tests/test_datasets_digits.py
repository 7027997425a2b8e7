"""The embedded digits, and what all loaders share: limits, splits, the cache, light imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from art import config
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from art_snn import datasets
from art_snn.datasets import _common


def test_digits_are_the_images_of_scikit_learn_in_the_form_of_art():
    (x_train, y_train), (x_test, y_test), low, high = datasets.digits(seed=0)
    assert x_train.shape == (1437, 1, 8, 8) and x_test.shape == (360, 1, 8, 8)
    assert y_train.shape == (1437, 10) and y_test.shape == (360, 10)
    assert {array.dtype for array in (x_train, y_train, x_test, y_test)} == {np.dtype(np.float32)}
    assert (low, high) == (0.0, 1.0) == (x_train.min(), x_train.max())
    assert (y_train.sum(axis=1) == 1).all() and set(np.unique(y_train)) == {0.0, 1.0}

    source = load_digits()
    expected = sorted((*image.ravel(), label) for image, label in zip(source.images, source.target, strict=True))
    x, y = np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test])
    assert sorted((*image.ravel() * 16, label) for image, label in zip(x, y.argmax(axis=1), strict=True)) == expected


def test_the_seed_decides_the_split():
    first, again, other = (datasets.digits(seed=seed)[0][0] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_limit_bounds_both_parts_and_balances_classes():
    (_, y_train), (_, y_test), _, _ = datasets.digits(limit=50)
    assert y_train.sum(axis=0).tolist() == y_test.sum(axis=0).tolist() == [5.0] * 10
    (x_train, _), (x_test, _), _, _ = datasets.digits(limit=1000)
    assert (len(x_train), len(x_test)) == (1000, 360)


@pytest.mark.parametrize("limit", [0, -1, 2.5, True, "10"])
def test_a_bad_limit_is_named(limit):
    with pytest.raises(ValueError, match="limit must be a positive integer"):
        datasets.digits(limit=limit)


@pytest.mark.parametrize("test_size", [0.0, 1.0, -0.5, 0.001])
def test_a_bad_test_size_is_named(test_size):
    with pytest.raises(ValueError, match="test_size"):
        datasets.digits(test_size=test_size)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 70), st.integers(0, 5))
def test_every_beginning_of_a_choice_is_as_balanced_as_the_classes_allow(labels, limit, seed):
    labels = np.array(labels)
    chosen = _common.choose(labels, limit, seed)
    assert len(chosen) == len(set(chosen)) == min(limit, len(labels))
    assert np.array_equal(chosen, _common.choose(labels, len(labels), seed)[:limit])
    available = np.bincount(labels)
    for stop in range(1, len(chosen) + 1):
        taken = np.bincount(labels[chosen[:stop]], minlength=len(available))
        # A class that has given less than another by two or more has no more to give.
        assert all(taken[k] == available[k] for k in range(len(available)) if taken[k] < taken.max() - 1)


def test_without_a_limit_the_order_is_kept():
    assert _common.choose(np.array([1, 0, 1, 2]), None, 0).tolist() == [0, 1, 2, 3]


@pytest.fixture
def numbers(tmp_path):
    """Ten files that hold one number each."""
    files = []
    for number in range(10):
        files.append(tmp_path / f"{number}.txt")
        files[-1].write_text(str(number))
    return files


class Reader:
    """Reads a number, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, file):
        self.calls += 1
        return np.full((2, 3), int(file.read_text()), dtype=np.uint16)


def load(files, rows, reader, folder, *, whole=False, **more):
    return _common.cached(
        files,
        np.array(rows),
        reader,
        settings={"name": "numbers", **more},
        whole=whole,
        cache_dir=folder,
        verbose=False,
    )


def test_the_cache_decodes_once_and_only_what_is_wanted(numbers, tmp_path):
    reader, folder = Reader(), tmp_path / "cache"
    assert load(numbers, [7, 2], reader, folder)[:, 0, 0].tolist() == [7, 2]
    assert reader.calls == 2
    assert load(numbers, [7, 2], reader, folder)[:, 0, 0].tolist() == [7, 2]
    assert reader.calls == 2
    assert load(numbers, [1, 9], reader, folder, whole=True)[:, 0, 0].tolist() == [1, 9]
    assert reader.calls == 12
    assert load(numbers, [5], reader, folder)[:, 0, 0].tolist() == [5], "the whole serves every later choice"
    assert reader.calls == 12
    assert json.loads(next(folder.glob("*.json")).read_text())["name"] == "numbers"


def test_the_cache_notices_changed_files_and_settings(numbers, tmp_path):
    reader, folder = Reader(), tmp_path / "cache"
    load(numbers, [3], reader, folder)
    load(numbers, [3], reader, folder, size=[4, 4])
    assert reader.calls == 2
    numbers[3].write_text("77")
    assert load(numbers, [3], reader, folder)[0, 0, 0] == 77
    status = numbers[3].stat()
    numbers[3].write_text("78")  # as long as before
    os.utime(numbers[3], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert load(numbers, [3], reader, folder)[0, 0, 0] == 78


def test_an_interrupted_decoding_leaves_nothing_behind(numbers, tmp_path):
    folder = tmp_path / "cache"
    numbers[4].write_text("not a number")
    with pytest.raises(ValueError):
        load(numbers, range(10), Reader(), folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"no array", None])
def test_a_damaged_cache_is_written_again(numbers, tmp_path, damage):
    folder = tmp_path / "cache"
    load(numbers, range(10), Reader(), folder)
    stored = next(folder.glob("*.npy"))
    stored.write_bytes(stored.read_bytes()[:-7] if damage is None else damage)
    reader = Reader()
    assert load(numbers, range(10), reader, folder)[:, 0, 0].tolist() == list(range(10))
    assert reader.calls == 10


def test_the_cache_lies_in_the_data_folder_of_art_by_default(numbers, tmp_path, monkeypatch):
    monkeypatch.setattr(config, "ART_DATA_PATH", str(tmp_path / "art"))
    load(numbers, [0], Reader(), None)
    assert list((tmp_path / "art" / "art-snn").glob("numbers-*.npy"))


def test_a_missing_library_is_named_with_the_extra_that_installs_it():
    with pytest.raises(ImportError, match=r"no_such_library.*art-snn\[events\]"):
        _common.optional("no_such_library", "events")


def test_importing_the_package_imports_no_library_of_a_single_loader():
    code = "import sys, art_snn.datasets; print([m for m in ('tonic', 'aedat', 'torchvision') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
