"""Images through torchvision: CIFAR-10, CIFAR-100 and any folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from typing_extensions import Unpack

from art_snn.datasets.cache import Stored, cached
from art_snn.datasets.checks import check_size
from art_snn.datasets.samples import Choice, Dataset, Share, Split, choose, one_hot, split
from art_snn.datasets.sources import Download, PathLike, downloading, optional, visible
from art_snn.keywords import Keyword, spelled_out

CIFAR_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
CIFAR_SHAPE = (3, 32, 32)


class Archive(Choice, Download, total=False):
    """What `cifar10` and `cifar100` take."""

    checksum: Annotated[
        bool,
        Keyword(
            True,
            "Hold every file to its published MD5 sum. Without it, a smaller archive of the same format loads too; its "
            "files are unpickled, so load none that you do not trust.",
        ),
    ]


class Folder(Choice, Share, Stored, total=False):
    """What `image_folder` takes."""

    size: Annotated[
        tuple[int, int] | None,
        Keyword(
            None,
            "Height and width to resize to; None takes the images as they are, which must then be of one size.",
        ),
    ]


@spelled_out()
def cifar10(root: PathLike, **settings: Unpack[Archive]) -> Dataset:
    """
    CIFAR-10: 50,000 training and 10,000 test images of 10 classes, from the original archive (Python version), and
    without a limit in its order.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009
    (https://www.cs.toronto.edu/~kriz/cifar.html).

    :param root: Folder that holds `cifar-10-batches-py`.
    :param settings: Which images are wanted, and of which archive.
    :return: `(x_train, y_train), (x_test, y_test), 0.0, 1.0`; x is `(N, 3, 32, 32)` in [0, 1], float32; y is one-hot,
             `(N, 10)`.
    :raises FileNotFoundError: If a file is missing.
    :raises ValueError: If a file is not what it should be, or an argument is out of range.
    """
    return _cifar("CIFAR10", 10, root, settings)


@spelled_out()
def cifar100(root: PathLike, **settings: Unpack[Archive]) -> Dataset:
    """
    CIFAR-100: 50,000 training and 10,000 test images of 100 classes (the fine labels), from the original archive
    (Python version), and without a limit in its order.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009
    (https://www.cs.toronto.edu/~kriz/cifar.html).

    :param root: Folder that holds `cifar-100-python`.
    :param settings: Which images are wanted, and of which archive.
    :return: `(x_train, y_train), (x_test, y_test), 0.0, 1.0`; x is `(N, 3, 32, 32)` in [0, 1], float32; y is one-hot,
             `(N, 100)`.
    :raises FileNotFoundError: If a file is missing.
    :raises ValueError: If a file is not what it should be, or an argument is out of range.
    """
    return _cifar("CIFAR100", 100, root, settings)


def _cifar(name: str, nb_classes: int, root: PathLike, settings: Archive) -> Dataset:
    """Either CIFAR, by the name of its torchvision class."""
    source = getattr(optional("torchvision.datasets", "images"), name)
    if settings["download"]:
        with downloading(name, root):
            source(root, download=True)
    folder = Path(root, source.base_folder)
    meta = (source.meta["filename"], source.meta["md5"])
    for file, md5 in (meta, *source.train_list, *source.test_list):
        _check_cifar_file(source, folder / file, md5 if settings["checksum"] else None)
    parts = []
    for files in (source.train_list, source.test_list):
        batches = [_cifar_batch(source, nb_classes, root, file) for file, _ in files]
        images = np.concatenate([images for images, _ in batches])
        labels = np.concatenate([labels for _, labels in batches])
        rows = choose(labels, settings["limit"], settings["seed"])
        parts.append((_unit(images[rows]), one_hot(labels[rows], nb_classes)))
    return parts[0], parts[1], 0.0, 1.0


def _check_cifar_file(source: Any, path: Path, md5: str | None) -> None:
    """Presence and, where a sum is given, contents of one file of the archive, before anything is unpickled."""
    from torchvision.datasets.utils import check_integrity

    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing. Download {source.url} (from {CIFAR_PAGE}) and unpack it in {path.parent.parent}, "
            "or pass download=True (art-snn train --download)"
        )
    if not check_integrity(str(path), md5):
        raise ValueError(
            f"{path}: its MD5 sum is not the published one ({md5}), so it is damaged or not the original; "
            "checksum=False loads an archive of your own in the same format"
        )


def _cifar_batch(source: Any, nb_classes: int, root: PathLike, name: str) -> Split:
    """One batch file, read by torchvision; uint8 images `(N, 3, 32, 32)` and integer labels `(N,)`."""
    # One file at a time, so that an error can name it; and without torchvision's second pass over the MD5 sums.
    fields = {"train_list": [(name, None)], "test_list": [], "meta": {**source.meta, "md5": None}}
    path = Path(root, source.base_folder, name)
    try:
        batch = type(source.__name__, (source,), fields)(root, train=True)
    except Exception as error:  # a damaged pickle raises almost anything
        raise ValueError(f"{path}: not a {source.__name__} batch ({type(error).__name__}: {error})") from error
    images, labels = batch.data.transpose(0, 3, 1, 2), np.asarray(batch.targets)
    if images.dtype != np.uint8 or images.shape[1:] != CIFAR_SHAPE or len(images) != len(labels) or not len(labels):
        raise ValueError(
            f"{path}: expected as many labels as rows of 3072 bytes, got {len(labels)} labels and {len(images)} images "
            f"of {images.dtype}"
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= nb_classes:
        raise ValueError(f"{path}: labels must be integers from 0 to {nb_classes - 1}, got {np.unique(labels)}")
    return images, labels


@spelled_out()
def image_folder(root: PathLike, **settings: Unpack[Folder]) -> Dataset:
    """
    Any data set laid out as a torchvision `ImageFolder`: one folder of images a class.

    The classes are numbered in the order of their names; without a limit the images of a folder that is split into
    `train` and `test` are sorted by class. Images are decoded once, to RGB, and cached; without a limit the whole
    folder is decoded, with one only the images drawn.

    :param root: Folder that holds `train/<class>/<image>` and `test/<class>/<image>`; or `<class>/<image>`, which is
                 then split.
    :param settings: Which images are wanted, and of what size.
    :return: `(x_train, y_train), (x_test, y_test), 0.0, 1.0`; x is `(N, 3, H, W)` in [0, 1], float32; y is one-hot,
             `(N, number of classes)`.
    :raises FileNotFoundError: If a folder is missing or empty.
    :raises ValueError: If a file is not an image or not of the size of the others, if `train` and `test` hold other
             classes, or if an argument is out of range.
    """
    limit, seed = settings["limit"], settings["seed"]
    size = None if settings["size"] is None else check_size(settings["size"])
    folder = Path(root)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder, expected one with a folder of images for every class")
    given = [name for name in ("train", "test") if (folder / name).is_dir()]
    if len(given) == 1:
        raise FileNotFoundError(f"{folder}: holds a folder {given[0]!r}, but not the other one of 'train' and 'test'")
    if given:
        sources = [_list_images(folder / name) for name in given]
        if sources[0][2] != sources[1][2]:
            differing = sorted(set(sources[0][2]) ^ set(sources[1][2]))
            raise ValueError(f"{folder}: classes in only one of 'train' and 'test': {', '.join(differing)}")
        selections = [np.arange(len(files)) for files, _, _ in sources]
    else:
        sources = [_list_images(folder)] * 2
        selections = list(split(sources[0][1], settings["test_size"], seed, str(folder)))
    parts = []
    for (files, labels, classes), selection in zip(sources, selections, strict=True):
        rows = selection[choose(labels[selection], limit, seed)]
        images = _decoded(files, rows, size, limit is None, settings)
        parts.append((_unit(images), one_hot(labels[rows], len(classes))))
    shapes = [x.shape[1:] for x, _ in parts]
    if shapes[0] != shapes[1]:
        raise ValueError(f"{folder}: images of 'train' are {shapes[0]}, of 'test' {shapes[1]}; pass size=(H, W)")
    return parts[0], parts[1], 0.0, 1.0


def _list_images(folder: Path) -> tuple[list[str], np.ndarray, list[str]]:
    """Files, labels and class names of an ImageFolder, which must hold nothing else."""
    torchvision = optional("torchvision.datasets", "images")
    try:
        found = torchvision.ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder}: not a folder of class folders with images: {error}") from error
    files = [file for file, _ in found.samples]
    known = set(files)
    for entry in visible(folder):
        for file in sorted(entry.rglob("*")) if entry.is_dir() else [entry]:
            if str(file) not in known and not file.name.startswith(".") and file.is_file():
                raise ValueError(f"{file}: expected only images here, in one folder a class")
    return files, np.asarray(found.targets), found.classes


def _decoded(
    files: list[str], rows: np.ndarray, size: tuple[int, int] | None, whole: bool, stored: Stored
) -> np.ndarray:
    """The chosen images, uint8 `(N, 3, H, W)`."""
    if size is None:
        expected = None

        def read(file: Path) -> np.ndarray:
            nonlocal expected
            image = _read_image(file, None)
            expected = expected or image.shape
            if image.shape != expected:
                raise ValueError(
                    f"{file}: is {image.shape[1]} x {image.shape[2]} pixels, the images before it "
                    f"{expected[1]} x {expected[2]}; pass size=(height, width) to resize all"
                )
            return image

    else:

        def read(file: Path) -> np.ndarray:
            return _read_image(file, size)

    settings = {"name": "images", "version": 2, "size": size}
    return cached(
        files, rows, read, settings=settings, whole=whole, cache_dir=stored["cache_dir"], verbose=stored["verbose"]
    )


def _read_image(file: Path, size: tuple[int, int] | None) -> np.ndarray:
    """One image, uint8 `(3, H, W)`."""
    from PIL import Image
    from torchvision.datasets.folder import pil_loader

    try:
        with Image.open(file) as source:
            mode = source.mode
        image = pil_loader(str(file))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # all that Pillow raises
        raise ValueError(f"{file}: not a readable image ({error})") from error
    if mode.startswith(("I", "F")):  # Pillow cuts off at 255: nearly all of such an image would be white
        raise ValueError(f"{file}: holds pixels of more than 8 bits (mode {mode}); save it with 8 bits a channel")
    if size is not None and image.size != size[::-1]:
        image = image.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(image).transpose(2, 0, 1)


def _unit(images: np.ndarray) -> np.ndarray:
    """From bytes to float32 in [0, 1]."""
    x = images.astype(np.float32)
    x /= 255.0
    return x
