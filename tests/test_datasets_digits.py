"""The embedded digits, and what all loaders share: limits, splits, the cache, light imports."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from art import config
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from art_snn import datasets
from art_snn.datasets import cache, samples, sources


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
    chosen = samples.choose(labels, limit, seed)
    assert len(chosen) == len(set(chosen)) == min(limit, len(labels))
    assert np.array_equal(chosen, samples.choose(labels, len(labels), seed)[:limit])
    available = np.bincount(labels)
    for stop in range(1, len(chosen) + 1):
        taken = np.bincount(labels[chosen[:stop]], minlength=len(available))
        # A class that has given less than another by two or more has no more to give.
        assert all(taken[k] == available[k] for k in range(len(available)) if taken[k] < taken.max() - 1)


def test_without_a_limit_the_order_is_kept():
    assert samples.choose(np.array([1, 0, 1, 2]), None, 0).tolist() == [0, 1, 2, 3]


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
    return cache.cached(
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


#: Decode ten files into the cache in a process whose files may be only so long, as on a full disk.
LITTLE_SPACE = """
import logging, os, resource, sys
import numpy as np
from art_snn.datasets import cache

logging.basicConfig(format="%(message)s")
if sys.argv[2] == "late":
    del os.posix_fallocate  # space that is not reserved runs out while rows are written
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
files = [os.path.join(sys.argv[1], f"{number}.txt") for number in range(10)]
read = lambda file: np.full(10_000, int(file.read_text()), dtype=np.uint16)
found = cache.cached(
    files, np.array([3, 4]), read, settings={"name": "numbers"}, whole=True, cache_dir=sys.argv[3], verbose=False
)
print(found[:, -1].tolist())
"""


def run_with(code: str, *arguments, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, **options)


@pytest.mark.skipif(os.name == "nt", reason="Windows limits no file's length")
@pytest.mark.parametrize("when", ["at once", "late"])
def test_where_the_cache_cannot_be_written_the_files_are_decoded_without(numbers, tmp_path, when):
    folder = tmp_path / "cache"
    done = run_with(LITTLE_SPACE, tmp_path, when, folder)
    assert done.stdout == "[3, 4]\n", done.stderr
    assert str(folder) in done.stderr and "File too large" in done.stderr
    assert "needs 0.2 MiB" in done.stderr and "Going on without it" in done.stderr
    assert list(folder.iterdir()) == [], "and nothing is left behind"


FULL_DISK = """
set -e
mount -t tmpfs -o size=100k none "$1"
"$2" -c "$3" "$4" "$5" "$1"
ls -A "$1"
"""


@pytest.mark.parametrize("when", ["at once", "late"])
def test_a_full_disk_kills_nobody(numbers, tmp_path, when):
    """A real one, where this user may mount one in a name space of his own."""
    unshare = ["unshare", "--map-root-user", "--mount"]
    (tmp_path / "disk").mkdir()
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", tmp_path]).returncode
    ):
        pytest.skip("no file system can be mounted")
    code = LITTLE_SPACE.replace("resource.setrlimit", "")
    script = ["sh", "-c", FULL_DISK, "sh", tmp_path / "disk", sys.executable, code, tmp_path, when]
    done = subprocess.run([*unshare, *map(str, script)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[3, 4]\n"), done.stderr
    assert f"{tmp_path / 'disk'}" in done.stderr and "No space left on device" in done.stderr
    assert "needs 0.2 MiB, 0.1 MiB is free" in done.stderr


def test_a_folder_that_is_none_is_no_place_for_a_cache_and_no_reason_to_stop(numbers, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        assert load(numbers, [3, 4], Reader(), folder)[:, 0, 0].tolist() == [3, 4]
        assert f"{folder}{os.sep}numbers-" in caplog.text


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="for whom nothing is read-only")
def test_a_folder_that_may_only_be_read_is_no_reason_to_stop(numbers, tmp_path, caplog):
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o500)
    assert load(numbers, [3, 4], Reader(), folder)[:, 0, 0].tolist() == [3, 4]
    assert "Permission denied" in caplog.text


def test_a_file_that_cannot_be_read_is_not_the_caches_fault(numbers, tmp_path, caplog):
    def read(file):
        if file == numbers[4]:
            raise OSError("the stick was pulled out")
        return np.zeros(3)

    with pytest.raises(OSError, match="pulled out"):
        load(numbers, range(10), read, tmp_path / "cache")
    assert not caplog.records and list((tmp_path / "cache").iterdir()) == []


#: Decode a file into the cache for ever, once the first was said to be done.
STUCK = """
import sys
from pathlib import Path
import numpy as np
from art_snn.datasets import cache

def read(file):
    if file.name == "1.txt":
        print("writing", flush=True)
        sys.stdin.read()
    return np.zeros(3)

files = [Path(sys.argv[1], f"{number}.txt") for number in range(10)]
cache.cached(
    files, np.arange(10), read, settings={"name": "stuck"}, whole=True, cache_dir=sys.argv[2], verbose=False
)
"""


def test_what_a_killed_run_was_writing_is_removed_but_not_what_another_is_writing(numbers, tmp_path):
    folder = tmp_path / "cache"
    command = [sys.executable, "-c", STUCK, str(tmp_path), str(folder)]
    killed, alive = (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    )
    try:
        for process in (killed, alive):
            assert process.stdout.readline() == "writing\n"
        killed.kill()
        killed.wait()
        assert len(list(folder.glob("*.part"))) == 2
        (folder / "thesis.part").write_text("somebody's own")
        load(numbers, [1], Reader(), folder)
        assert len(list(folder.glob("*.part"))) == 2 and (folder / "thesis.part").exists()
        alive.communicate("")
        assert alive.returncode == 0 and len(list(folder.glob("stuck-*.npy"))) == 1
        assert [path.name for path in folder.glob("*.part")] == ["thesis.part"]
    finally:
        for process in (killed, alive):
            process.kill()
            process.communicate()


def test_what_the_reader_notes_comes_back_with_the_array(numbers, tmp_path):
    folder = tmp_path / "cache"
    found: list[dict] = [{}, {}, {}]

    def load_noting(rows, notes, *, whole=False):
        def read(file):
            notes[str(file)] = int(file.read_text())
            return np.zeros(3)

        cache.cached(
            numbers,
            np.array(rows),
            read,
            settings={"name": "n"},
            whole=whole,
            cache_dir=folder,
            verbose=False,
            notes=notes,
        )

    load_noting([2, 5], found[0], whole=True)
    load_noting([7], found[1])
    assert len(found[0]) == 10 and found[0] == found[1]
    next(folder.glob("*.json")).unlink()
    load_noting([7], found[2])
    assert found[2] == {str(numbers[7]): 7}, "an array without its notes is none"


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
        sources.optional("no_such_library", "events")


def test_importing_the_package_imports_no_library_of_a_single_loader():
    code = "import sys, art_snn.datasets; print([m for m in ('tonic', 'aedat', 'torchvision') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
