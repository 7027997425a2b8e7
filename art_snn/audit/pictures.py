"""Figures of inputs and spikes: a few examples, their perturbations, the frames of a recording, and who spikes when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from art_snn.attacks import attack as attack_of
from art_snn.audit.columns import column
from art_snn.audit.drawing import COLOURS, DIFFERENCE, LETTERS, Picture, as_picture, canvas, plain
from art_snn.audit.examples import CLEAN, TRUE, LayerSpikes, Raster
from art_snn.audit.protocol import AuditResult

#: All figures of this module.
NAMES = ("examples", "perturbations", "frames", "spikes")

#: Frames of a recording that are shown.
FRAMES = 10

#: Layers whose spikes are shown.
LAYERS = 8

#: Pixels of a picture's height in a figure, at least: a gap between pictures is a part of it.
SIDE = 40

_ON, _OFF = np.array([0.0, 0.447, 0.698]), np.array([0.902, 0.624, 0.0])  # blue and orange


def all_pictures(result: AuditResult) -> Iterator[Picture]:
    """
    :param result: An audit's findings.
    :return: The figures that they give, one after the other.
    """
    if result.examples and result.examples[CLEAN].ndim in (4, 5):  # images, or frames
        yield examples(result)
        yield perturbations(result)
        if result.examples[CLEAN].ndim == 5:
            yield frames(result)
    if result.raster is not None:
        yield spikes(result)


def examples(result: AuditResult) -> Picture:
    """
    :param result: An audit's findings, with examples.
    :return: A row of clean inputs, and one of adversarial inputs for each chain, with the classes that are predicted.
    """
    clean = result.examples[CLEAN]  # of a recording, the mean of all events is far below the brightest one
    brightest = float(clean.mean((1, 2)).max()) or 1.0 if clean.ndim == 5 else max(1.0, float(clean.max()))
    lines = [_line(result, name, [as_picture(one / brightest) for one in x]) for name, x in result.examples.items()]
    figure, axis = _mosaic(lines, cmap="gray", vmin=0.0, vmax=1.0)
    axis.set_title(plain(f"Predicted classes (fooled: in a frame), {_attack(result)}"))
    return Picture("examples", "Inputs before and after the attack", _alt_examples(result), figure)


def perturbations(result: AuditResult) -> Picture:
    """
    :param result: An audit's findings, with examples.
    :return: What each chain adds to each of the examples.
    """
    clean = result.examples[CLEAN]
    changes = {name: x - clean for name, x in result.examples.items() if name != CLEAN}
    largest = max(float(np.abs(change).max()) for change in changes.values()) or 1.0
    lines = [_line(result, name, [_change(one) for one in change]) for name, change in changes.items()]
    figure, axis = _mosaic(lines, cmap=DIFFERENCE, vmin=-largest, vmax=largest)
    mean = ", mean of colours" if clean.shape[-3] == 3 else ", mean of frames and polarities" if clean.ndim == 5 else ""
    figure.colorbar(axis.images[0], ax=axis, label=f"added{mean}", fraction=0.04)
    axis.set_title(plain(f"What is added, {_attack(result)}"))
    sizes = "; ".join(
        f"{column(name).title}: largest {np.abs(change).max():.3g}, mean {np.abs(change).mean():.3g}"
        for name, change in changes.items()
    )
    alt = f"What is added to {len(clean)} inputs by {_attack(result)}, in absolute values. {sizes}."
    return Picture("perturbations", "Perturbations", alt, figure)


def frames(result: AuditResult) -> Picture:
    """
    :param result: An audit's findings, with examples that are recordings of events.
    :return: The frames of one of them, clean and adversarial, and their difference.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    number = 0 if result.raster is None else result.raster.sample
    name = next(each for each in result.examples if each != CLEAN) if result.raster is None else result.raster.chain
    clean, attacked = (result.examples[each][number] for each in (CLEAN, name))
    brightest = max(float(clean.max()), float(attacked.max())) or 1.0
    change = (attacked - clean).sum(1)
    largest = float(np.abs(change).max()) or 1.0
    shades = ScalarMappable(Normalize(-largest, largest), DIFFERENCE)
    places = _spread(len(clean), FRAMES)
    lines = [
        Line("clean", [_events(clean[t] / brightest) for t in places], [f"t = {t + 1}" for t in places]),
        Line(_name(name), [_events(attacked[t] / brightest) for t in places]),
        Line("difference", [shades.to_rgba(change[t])[..., :3] for t in places]),
    ]
    figure, axis = _mosaic(lines)
    figure.colorbar(shades, ax=axis, label="added, sum of polarities", fraction=0.04)
    axis.set_title(plain(f"Events, on blue, off orange: example {number + 1}, {_attack(result)}"))
    alt = (
        f"{len(places)} of {len(clean)} frames of example {number + 1}, clean and adversarial along "
        f"{column(name).title}, and their difference: {_classes(result, name, number)}largest change of a pixel's "
        f"polarity {np.abs(attacked - clean).max():.3g}, mean {np.abs(attacked - clean).mean():.3g}."
    )
    return Picture("frames", "Frames of a recording before and after the attack", alt, figure)


def spikes(result: AuditResult) -> Picture:
    """
    :param result: An audit's findings, with the spikes under one example.
    :return: Which neurons spike when, layer by layer, under the clean input and under the adversarial one.
    """
    raster = result.raster
    assert raster is not None
    layers = [raster.layers[place] for place in _spread(len(raster.layers), LAYERS)]
    heights = [max(layer.spikes.shape[2], 4) for layer in layers]
    figure, axes = canvas(len(layers), 2, 8.0, 0.085 * sum(heights) + 0.75 * len(heights) + 1.0)
    time_steps = layers[0].spikes.shape[1]
    for layer, line in zip(layers, axes, strict=True):
        clean, attacked = layer.spikes
        for axis, now, other in zip(line, (clean, attacked), (attacked, clean), strict=True):
            _ticks(axis, now & other, COLOURS[0], 2.0)
            _ticks(axis, now & ~other, COLOURS[1], 3.5)
            axis.set(xlim=(0.5, time_steps + 0.5), ylim=(-0.7, max(clean.shape[1], 1) - 0.3), yticks=[])
            axis.xaxis.get_major_locator().set_params(integer=True)
        for axis, rate in zip(line, layer.rates, strict=True):
            axis.set_title(f"{plain(layer.layer, LETTERS)}: rate {rate:.3f}", fontsize=9)
        line[0].set_ylabel(f"{clean.shape[1]} of {layer.firing}\nthat fire", fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("time step")
    attacked_name = plain(column(raster.chain).title, LETTERS)
    figure.suptitle(
        f"Spikes under the clean input (left) and the adversarial one (right, {attacked_name});\n"
        f"bold orange: under this input only{_some(layers, raster)}"
    )
    words = "; ".join(
        f"{layer.layer}, {layer.neurons} neurons of which {layer.firing} fire: {layer.rates[0]:.3f} and "
        f"{layer.rates[1]:.3f}, of {layer.spikes[0].size} places shown {int((layer.spikes[0] ^ layer.spikes[1]).sum())}"
        " differ"
        for layer in raster.layers
    )
    alt = (
        f"Spikes of example {raster.sample + 1} over {time_steps} time steps, clean and adversarial along "
        f"{column(raster.chain).title}: {_classes(result, raster.chain, raster.sample)}spikes for each neuron and "
        f"step, clean and adversarial, by layer: {words}."
    )
    return Picture("spikes", "Spikes before and after the attack", alt, figure)


@dataclass(frozen=True)
class Line:
    """A row of pictures.

    :param name: Its name, at the left.
    :param pictures: Grey ones `(H, W)` or colour ones `(H, W, 3)`.
    :param texts: What stands above each; nothing if there are none.
    :param framed: Which are in a frame; none if it is not said.
    """

    name: str
    pictures: list[np.ndarray]
    texts: Sequence[str] = ()
    framed: Sequence[bool] = ()


def _line(result: AuditResult, name: str, pictures: list[np.ndarray]) -> Line:
    """Pictures of examples, with the predicted classes, those that fool in a frame."""
    if not result.classes:
        return Line(_name(name), pictures)
    framed = [] if name == CLEAN else _fooled(result, name).tolist()
    return Line(_name(name), pictures, [str(number) for number in result.classes[name]], framed)


def _mosaic(lines: list[Line], **shades: Any) -> tuple[Any, Any]:
    """Pictures in rows, in one image."""
    from matplotlib.patches import Rectangle

    first = lines[0].pictures[0]
    larger = -(-SIDE // first.shape[0])
    height, width = (larger * side for side in first.shape[:2])
    down, across = height + round(0.3 * height), width + round(0.1 * width)  # from picture to picture, in pixels
    rows, columns = len(lines), len(lines[0].pictures)
    whole = np.full((rows * down, columns * across, *first.shape[2:]), 1.0 if first.ndim == 3 else np.nan)
    names = height * (0.3 + 0.1 * max(len(line.name) for line in lines))  # room for them
    figure, axes = canvas(1, 1, 0.95 * (columns * across + names) / height + 1.2, 0.95 * rows * down / height + 0.5)
    axis = axes[0, 0]
    for number, line in enumerate(lines):
        top = number * down
        axis.text(-0.15 * height, top + height / 2, line.name, ha="right", va="center")
        for place, picture in enumerate(line.pictures):
            left = place * across
            whole[top : top + height, left : left + width] = picture.repeat(larger, 0).repeat(larger, 1)
            if line.texts:
                axis.text(left + width / 2, top - 0.05 * height, line.texts[place], ha="center", fontsize=8)
            framed = bool(line.framed) and line.framed[place]
            colour, thick = (COLOURS[1], 2.2) if framed else ("0.6", 0.5)
            axis.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=colour, linewidth=thick))
    extent = (0, columns * across, rows * down, 0)
    axis.imshow(whole, extent=extent, interpolation="nearest", zorder=0, **shades)
    right, bottom, edge = (columns - 1) * across + width, (rows - 1) * down + height, 0.04 * width
    axis.set(xlim=(-names, right + edge), ylim=(bottom + edge, -0.3 * height))
    axis.set_axis_off()
    return figure, axis


def _spread(number: int, most: int) -> list[int]:
    """At most so many places out of a number of them, at equal distances."""
    return sorted(set(np.linspace(0, number - 1, min(number, most)).round().astype(int).tolist()))


def _some(layers: list[LayerSpikes], raster: Raster) -> str:
    """Which part of the layers is shown, if it is not all."""
    return "" if len(layers) == len(raster.layers) else f"; {len(layers)} of {len(raster.layers)} layers"


def _name(name: str) -> str:
    return CLEAN if name == CLEAN else plain(column(name).title, LETTERS)


def _attack(result: AuditResult) -> str:
    settings = result.settings
    return f"white-box {attack_of(settings.attacks[-1]).title}, ε = {settings.eps:g}"


def _fooled(result: AuditResult, name: str) -> np.ndarray:
    """Which examples are classified correctly before, and not after."""
    classes = result.classes
    return (classes[CLEAN] == classes[TRUE]) & (classes[name] != classes[TRUE])


def _classes(result: AuditResult, name: str, number: int) -> str:
    if not result.classes:
        return ""
    true, before, after = (result.classes[each][number] for each in (TRUE, CLEAN, name))
    return f"true class {true}, predicted {before} before and {after} after; "


def _alt_examples(result: AuditResult) -> str:
    names = [name for name in result.examples if name != CLEAN]
    text = f"{len(result.examples[CLEAN])} clean inputs, and what {_attack(result)} makes of them along "
    text += ", ".join(column(name).title for name in names)
    if not result.classes:
        return f"{text}."
    right = int((result.classes[CLEAN] == result.classes[TRUE]).sum())
    counts = ", ".join(f"{column(name).title} {int(_fooled(result, name).sum())}" for name in names)
    return f"{text}. {right} are classified correctly before; of those are fooled: {counts}."


def _change(change: np.ndarray) -> np.ndarray:
    """What was added to an image `(C, H, W)` or a recording `(T, 2, H, W)`, as a picture `(H, W)`."""
    return change.reshape(-1, *change.shape[-2:]).mean(0)


def _events(frame: np.ndarray) -> np.ndarray:
    """A frame `(2, H, W)`, off and on, from 0 to 1, in colours on white."""
    off, on = np.clip(frame[..., None], 0.0, 1.0) ** 0.5  # a single event among many is still seen
    return (1 - off * (1 - _OFF)) * (1 - on * (1 - _ON))


def _ticks(axis: Any, fired: np.ndarray, colour: str, width: float) -> None:
    """Spikes `(T, neurons)` as ticks at their steps, from 1."""
    steps, neurons = np.nonzero(fired)
    axis.vlines(steps + 1, neurons - 0.4, neurons + 0.4, color=colour, linewidth=width)
