"""CIFAR and image folders: tiny files in the true formats, read by torchvision."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from art_snn import datasets

CIFAR10_FILES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def write_pickle(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))  # as in the archives


def write_cifar10(root: Path, rows: int = 10) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    folder = root / "cifar-10-batches-py"
    written = {}
    for name in CIFAR10_FILES:
        written[name] = generator.integers(0, 256, (rows, 3072), dtype=np.uint8)
        labels = [number % 10 for number in range(rows)]
        write_pickle(folder / name, {"batch_label": name, "labels": labels, "data": written[name], "filenames": []})
    write_pickle(folder / "batches.meta", {"label_names": CIFAR10_NAMES, "num_vis": 3072})
    return written


def write_cifar100(root: Path, labels: list[int]) -> None:
    folder = root / "cifar-100-python"
    for name in ("train", "test"):
        data = np.zeros((len(labels), 3072), dtype=np.uint8)
        coarse = [0] * len(labels)
        write_pickle(folder / name, {"fine_labels": labels, "coarse_labels": coarse, "data": data})
    write_pickle(folder / "meta", {"fine_label_names": [str(n) for n in range(100)], "coarse_label_names": []})


def test_cifar10_reads_the_batches_in_order(tmp_path):
    written = write_cifar10(tmp_path)
    (x_train, y_train), (x_test, y_test), low, high = datasets.cifar10(tmp_path, checksum=False)
    assert x_train.shape == (50, 3, 32, 32) and x_test.shape == (10, 3, 32, 32)
    assert x_train.dtype == y_train.dtype == np.float32 and (low, high) == (0.0, 1.0)
    rows = np.concatenate([written[name] for name in CIFAR10_FILES[:5]])  # a row is red, green, blue, each by rows
    assert np.array_equal(np.rint(x_train * 255).reshape(50, -1), rows)
    assert np.array_equal(np.rint(x_test * 255).reshape(10, -1), written["test_batch"])
    assert y_train.argmax(axis=1).tolist() == list(range(10)) * 5
    assert y_test.shape == (10, 10)


def test_cifar100_takes_the_fine_labels(tmp_path):
    write_cifar100(tmp_path, [0, 99, 42])
    (_, y_train), (_, y_test), _, _ = datasets.cifar100(str(tmp_path), checksum=False)
    assert y_train.shape == (3, 100)
    assert y_train.argmax(axis=1).tolist() == y_test.argmax(axis=1).tolist() == [0, 99, 42]


def test_cifar10_with_a_limit_is_balanced_and_follows_the_seed(tmp_path):
    write_cifar10(tmp_path)
    (x, y), (x_test, _), _, _ = datasets.cifar10(tmp_path, checksum=False, limit=20, seed=3)
    assert y.sum(axis=0).tolist() == [2.0] * 10 and len(x_test) == 10
    assert np.array_equal(x, datasets.cifar10(tmp_path, checksum=False, limit=20, seed=3)[0][0])
    assert not np.array_equal(x, datasets.cifar10(tmp_path, checksum=False, limit=20, seed=4)[0][0])


def test_the_published_sums_are_checked_before_anything_is_unpickled(tmp_path):
    write_cifar10(tmp_path)

    class Dangerous:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "unpickled"),))

    for path in (tmp_path / "cifar-10-batches-py").iterdir():
        path.write_bytes(pickle.dumps(Dangerous()))
    with pytest.raises(ValueError, match=r"batches\.meta: its MD5 sum is not the published one"):
        datasets.cifar10(tmp_path)
    assert not (tmp_path / "unpickled").exists()


def test_an_archive_with_the_right_sums_loads(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    def sum_of(name):
        return hashlib.md5((tmp_path / "cifar-10-batches-py" / name).read_bytes()).hexdigest()

    write_cifar10(tmp_path)
    monkeypatch.setattr(CIFAR10, "train_list", [[name, sum_of(name)] for name in CIFAR10_FILES[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sum_of("test_batch")]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sum_of("batches.meta")})
    assert datasets.cifar10(tmp_path)[0][0].shape == (50, 3, 32, 32)
    assert datasets.cifar10(tmp_path, download=True)[0][0].shape == (50, 3, 32, 32), "nothing to download"
    path = tmp_path / "cifar-10-batches-py" / "data_batch_4"
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="data_batch_4: its MD5 sum"):
        datasets.cifar10(tmp_path)


@pytest.mark.parametrize(
    ("loader", "archive"),
    [(datasets.cifar10, "cifar-10-python.tar.gz"), (datasets.cifar100, "cifar-100-python.tar.gz")],
)
def test_a_missing_cifar_says_what_to_download_and_where_to(loader, archive, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        loader(tmp_path / "nowhere")
    assert archive in str(caught.value) and str(tmp_path / "nowhere") in str(caught.value)
    assert "download=True" in str(caught.value)


def test_a_download_that_fails_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.CIFAR100.url", "http://127.0.0.1:1/cifar-100-python.tar.gz")
    with pytest.raises(OSError, match=f"CIFAR100 could not be downloaded to {tmp_path}: .*refused"):
        datasets.cifar100(tmp_path, download=True)


def test_a_missing_batch_is_named(tmp_path):
    write_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(FileNotFoundError, match="data_batch_3 is missing"):
        datasets.cifar10(tmp_path, checksum=False)


PIXELS = np.zeros((2, 3072), dtype=np.uint8)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GIF89a not a pickle",
        pickle.dumps({"data": PIXELS, "labels": [0, 1]})[:-3000],
        pickle.dumps([1, 2, 3]),
        pickle.dumps({"data": PIXELS, "labels": [0, 10]}),
        pickle.dumps({"data": PIXELS, "labels": [0, -1]}),
        pickle.dumps({"data": PIXELS, "labels": ["cat", "dog"]}),
        pickle.dumps({"data": PIXELS, "labels": [0]}),
        pickle.dumps({"data": PIXELS[:, :-1], "labels": [0, 1]}),
        pickle.dumps({"data": PIXELS[:0], "labels": []}),
        pickle.dumps({"data": PIXELS.astype(np.float32), "labels": [0, 1]}),
    ],
    ids=[
        "empty",
        "foreign",
        "truncated",
        "list",
        "label 10",
        "label -1",
        "text",
        "few labels",
        "width",
        "no rows",
        "float",
    ],
)
def test_a_bad_batch_is_named(tmp_path, content):
    write_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_2").write_bytes(content)
    with pytest.raises(ValueError, match="data_batch_2: "):
        datasets.cifar10(tmp_path, checksum=False)


# --- Folders of images ---


def write_images(folder: Path, classes: str = "ab", number: int = 3, size: tuple[int, int] = (6, 4)) -> None:
    """Images of one colour each, `size` being (height, width)."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(number):
            colour = np.broadcast_to([10 * label, 20 * index, 200], (*size, 3)).astype(np.uint8)
            Image.fromarray(np.ascontiguousarray(colour)).save(folder / name / f"{index}.png")


def load(root: Path, **options):
    return datasets.image_folder(root, cache_dir=root.parent / "cache", **options)


@pytest.fixture
def root(tmp_path) -> Path:
    write_images(tmp_path / "data" / "train")
    write_images(tmp_path / "data" / "test", number=2)
    return tmp_path / "data"


def test_a_folder_with_train_and_test(root):
    (x_train, y_train), (x_test, y_test), low, high = load(root)
    assert x_train.shape == (6, 3, 6, 4) and x_test.shape == (4, 3, 6, 4)
    assert x_train.dtype == y_train.dtype == np.float32 and (low, high) == (0.0, 1.0)
    assert y_train.argmax(axis=1).tolist() == [0, 0, 0, 1, 1, 1] and y_test.shape == (4, 2)
    assert np.allclose(x_train[4, :, 0, 0] * 255, [10, 20, 200])  # class b, its second image


def test_a_folder_of_classes_is_split_by_the_seed(tmp_path):
    write_images(tmp_path / "data", number=10)
    (x_train, y_train), (x_test, y_test), _, _ = load(tmp_path / "data", seed=1)
    assert y_train.sum(axis=0).tolist() == [8, 8] and y_test.sum(axis=0).tolist() == [2, 2]
    assert len(np.unique(np.concatenate([x_train, x_test])[:, :, 0, 0], axis=0)) == 20
    again, other = (load(tmp_path / "data", seed=seed)[1][0] for seed in (1, 2))
    assert np.array_equal(x_test, again) and not np.array_equal(x_test, other)


def test_a_limit_decodes_only_what_it_needs(root):
    (x_train, y_train), (x_test, _), _, _ = load(root, limit=2)
    assert y_train.sum(axis=0).tolist() == [1, 1] and len(x_test) == 2
    sizes = [len(np.load(file)) for file in (root.parent / "cache").glob("*.npy")]
    assert sizes == [2, 2]
    load(root)
    whole = load(root, limit=2)
    assert np.array_equal(whole[0][0], x_train)


def test_the_cache_is_used_and_a_changed_image_noticed(root):
    load(root)
    stored = {file: file.stat().st_mtime_ns for file in (root.parent / "cache").glob("*.npy")}
    load(root)
    assert {file: file.stat().st_mtime_ns for file in (root.parent / "cache").glob("*.npy")} == stored
    Image.new("RGB", (4, 6), (255, 0, 0)).save(root / "train" / "a" / "0.png")
    assert np.array_equal(load(root)[0][0][0, :, 0, 0], [1.0, 0.0, 0.0])


def test_jpeg_and_grey_images_become_rgb(tmp_path):
    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(2):
            Image.new("L", (8, 8), 100).save(tmp_path / "data" / name / f"{index}.JPG")
    (x, _), _, _, _ = load(tmp_path / "data", test_size=0.5)
    assert x.shape == (2, 3, 8, 8) and np.allclose(x * 255, 100, atol=1)


def test_images_of_more_than_8_bits_are_refused_instead_of_cut_off(root):
    path = root / "train" / "b" / "1.png"
    Image.fromarray(np.full((6, 4), 20_000, dtype=np.uint16)).save(path)  # a dark grey, which RGB would make white
    with pytest.raises(ValueError, match=r"1\.png: holds pixels of more than 8 bits \(mode I;16\)"):
        load(root)


def test_images_of_unequal_size_need_a_size(root):
    Image.new("RGB", (9, 9)).save(root / "train" / "b" / "1.png")
    with pytest.raises(ValueError, match=r"1\.png: is 9 x 9 pixels, the images before it 6 x 4; pass size="):
        load(root)
    (x_train, _), (x_test, _), _, _ = load(root, size=(5, 3))
    assert x_train.shape == (6, 3, 5, 3) and x_test.shape == (4, 3, 5, 3)


def test_train_and_test_of_unequal_size_need_a_size(tmp_path):
    write_images(tmp_path / "data" / "train")
    write_images(tmp_path / "data" / "test", size=(7, 7))
    with pytest.raises(ValueError, match="pass size"):
        load(tmp_path / "data")


@pytest.mark.parametrize("size", [7, (0, 4), (4, 4, 4), (2.5, 2), "ab"])
def test_a_bad_size_is_named(root, size):
    with pytest.raises(ValueError, match="size"):
        load(root, size=size)


@pytest.mark.parametrize("damage", ["empty", "foreign", "truncated"])
def test_a_bad_image_is_named(root, damage):
    path = root / "train" / "a" / "2.png"
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "foreign": b"#!/bin/sh", "truncated": content[: len(content) // 2]}[damage])
    with pytest.raises(ValueError, match=r"2\.png: not a readable image"):
        load(root)


@pytest.mark.parametrize("place", ["train/a/notes.txt", "train/readme.md"])
def test_a_file_that_is_no_image_is_named(root, place):
    (root / place).write_text("hello")
    with pytest.raises(ValueError, match=f"{place}: expected only images"):
        load(root)


def test_hidden_files_are_ignored(root):
    (root / "train" / ".DS_Store").write_text("")
    (root / "train" / "a" / "._0.txt").write_text("")
    assert len(load(root)[0][0]) == 6


def test_missing_and_empty_folders_are_named(root, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty: not a folder of class folders"):
        load(tmp_path / "empty")
    (root / "train" / "c").mkdir()
    with pytest.raises(FileNotFoundError, match="train: not a folder of class folders"):
        load(root)


def test_half_a_split_is_an_error(tmp_path):
    write_images(tmp_path / "data" / "train")
    write_images(tmp_path / "data" / "val")
    with pytest.raises(FileNotFoundError, match="holds a folder 'train', but not the other"):
        load(tmp_path / "data")


def test_other_classes_in_test_than_in_train_are_named(root):
    (root / "test" / "b").rename(root / "test" / "c")
    with pytest.raises(ValueError, match="only one of 'train' and 'test': b, c"):
        load(root)


def test_a_class_too_small_to_split_is_an_error(tmp_path):
    write_images(tmp_path / "data", number=5)
    write_images(tmp_path / "data", classes="abc", number=1)
    with pytest.raises(ValueError, match="no stratified split"):
        load(tmp_path / "data")


# --- The real images, where they are at hand ---


def real_folder() -> Path | None:
    """The folder under ART_SNN_DATA that holds CIFAR-10 as `train/airplane/*.jpg`."""
    data = os.environ.get("ART_SNN_DATA")
    places = [Path(data), *sorted(Path(data).iterdir())] if data else []
    return next((place for place in places if (place / "train" / "airplane").is_dir()), None)


@pytest.mark.skipif(real_folder() is None, reason="ART_SNN_DATA names no folder with CIFAR-10 as JPEG files")
def test_cifar10_as_jpeg_files(tmp_path):
    (x_train, y_train), (x_test, y_test), low, high = datasets.image_folder(
        real_folder(), limit=200, cache_dir=tmp_path / "cache"
    )
    assert x_train.shape == x_test.shape == (200, 3, 32, 32) and (low, high) == (0.0, 1.0)
    assert y_train.sum(axis=0).tolist() == y_test.sum(axis=0).tolist() == [20.0] * 10
    assert 0.4 < x_train.mean() < 0.55 and 0.2 < x_train.std() < 0.3
