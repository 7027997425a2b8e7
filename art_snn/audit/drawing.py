"""How figures are drawn: without a screen, and leaving matplotlib's global state as it is.

Colours are those of Okabe and Ito (2008), which people tell apart with any colour vision; where they mean something, so
do markers or lines.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from art_snn.audit.columns import column
from art_snn.audit.protocol import AuditResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Black, vermillion, blue, green, orange, purple, sky blue.
COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#e69f00", "#cc79a7", "#56b4e9")
#: Of a difference: blue where it is negative, red where positive.
DIFFERENCE = "RdBu_r"
#: Dots per inch of a PNG.
DPI = 150
#: Letters of a label, and of a panel's title.
LETTERS, TITLE = 28, 44


@dataclass(frozen=True)
class Picture:
    """A figure of a report.

    :param name: Its file's name, without suffix.
    :param title: What it shows.
    :param alt: What it shows, in words and numbers, for who cannot see it.
    :param figure: The figure.
    """

    name: str
    title: str
    alt: str
    figure: Figure

    def png(self) -> bytes:
        """
        :return: It as PNG.
        """
        with io.BytesIO() as file:
            self.figure.savefig(file, format="png", dpi=DPI)
            return file.getvalue()

    def pdf(self) -> bytes:
        """
        :return: It as PDF: lines and letters as such, in fonts that publishers take, and the same bytes every time.
        """
        import matplotlib

        with io.BytesIO() as file, matplotlib.rc_context({"pdf.fonttype": 42}):  # savefig has no argument for it
            self.figure.savefig(file, format="pdf", dpi=DPI, metadata={"CreationDate": None})
            return file.getvalue()


def canvas(rows: int, columns: int, width: float, height: float) -> tuple[Any, Any]:
    """
    :param rows: Rows of axes.
    :param columns: Columns of axes.
    :param width: In inches.
    :param height: In inches.
    :return: A figure that needs no screen, and its axes `(rows, columns)`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def panels(number: int) -> tuple[Any, list[Any]]:
    """
    :param number: How many panels, at most three beside each other.
    :return: A figure with room for a legend beside them, and their axes.
    """
    columns = 2 if number in (2, 4) else min(number, 3)
    rows = -(-number // columns)
    figure, axes = canvas(rows, columns, 4.6 * columns + 1.6, 3.9 * rows)
    for axis in axes.flat[number:]:
        axis.set_axis_off()
    return figure, list(axes.flat[:number])


def legend(figure: Any, axes: list[Any]) -> None:
    """
    :param figure: A figure.
    :param axes: Its panels: each of what they show is named once, beside them.
    """
    named: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    figure.legend(list(named.values()), list(named), loc="outside right center")


def styles(result: AuditResult) -> dict[str, dict[str, Any]]:
    """
    :param result: An audit's findings.
    :return: Colour, marker and width of each chain's line, the same in all figures.
    """
    chains, markers, dashes = list(dict.fromkeys(row.chain for row in result.rows)), "vsoPD*^X", ("-", "--", ":")
    return {
        chain: {
            "color": COLOURS[number % len(COLOURS)],
            "linestyle": dashes[number // len(COLOURS) % len(dashes)],
            "marker": markers[number % len(markers)],
            "linewidth": 2.6 if column(chain).featured else 1.3,
            "zorder": 3 if column(chain).featured else 2,
        }
        for number, chain in enumerate(chains)
    }


def plain(text: str, letters: int | None = None) -> str:
    """
    :param text: A text that may be the user's, such as a path.
    :param letters: How many of its letters there is room for; those in the middle say least.
    :return: It, in which no letter begins a formula.
    """
    if letters is not None and len(text) > letters:
        first = letters // 3
        text = f"{text[:first]}…{text[first + 1 - letters :]}"
    return text.replace("$", r"\$")


def titled(*parts: str) -> str:
    """
    :param parts: What a panel is of.
    :return: Its title: in one line if there is room for it, else in as many as there are parts.
    """
    fits = len(", ".join(parts)) <= TITLE
    return (", " if fits else "\n").join(plain(part, TITLE) for part in parts)


def as_picture(x: np.ndarray) -> np.ndarray:
    """
    :param x: An image `(C, H, W)`, or the frames of a recording `(T, 2, H, W)`, from 0 to 1.
    :return: It as a grey picture `(H, W)` or a colour one `(H, W, 3)`; of a recording, the mean of its frames, of both
        polarities.
    """
    x = x.mean(0) if x.ndim == 4 else x
    return np.clip(x.transpose(1, 2, 0) if len(x) == 3 else x.mean(0), 0.0, 1.0)


def numbers(pairs: dict[str, float], unit: str = " %") -> str:
    """
    :param pairs: Numbers by what they are of.
    :param unit: Their unit.
    :return: They in a row.
    """
    return ", ".join(f"{name} {value:.1f}{unit}" for name, value in pairs.items())
