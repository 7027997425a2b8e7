"""The paper's figures (Hao et al., ICLR 2024): attack success rates in per cent, by table and setting.

A line is a data set, an architecture, λ (with * for a robust target) or what else a table's lines differ in, and then
the rates of each chain. VGG-11 on CIFAR-10 where a table is of that alone.
"""

from __future__ import annotations

from collections.abc import Iterator

#: A setting of the paper: data set, architecture, what else differs, attack, scenario.
Key = tuple[str, str, tuple[tuple[str, str], ...], str, str]

# Tables 2 and 3: data set; architecture; λ; attack; CBA, BPTR, STBP, RGA, HART.
_WHITE = """
CIFAR-10 VGG-11 0.5 fgsm 60.40 82.67 91.71 93.63 96.28
CIFAR-10 VGG-11 0.5 pgd 42.13 99.21 99.95 99.92 100.00
CIFAR-10 VGG-11 0.9 fgsm 70.58 88.36 89.91 94.41 97.24
CIFAR-10 VGG-11 0.9 pgd 55.29 99.45 99.94 99.97 99.98
CIFAR-10 VGG-11 0.9* fgsm 25.49 41.77 55.41 56.76 58.70
CIFAR-10 VGG-11 0.9* pgd 20.77 61.45 78.55 74.42 83.54
CIFAR-10 VGG-11 1.0 fgsm 71.76 88.76 86.28 93.74 96.22
CIFAR-10 VGG-11 1.0 pgd 67.94 99.63 99.70 99.94 99.97
CIFAR-10 ResNet-17 0.9 fgsm 44.29 85.06 84.24 92.93 94.80
CIFAR-10 ResNet-17 0.9 pgd 29.76 99.86 99.91 100.00 100.00
CIFAR-100 VGG-11 0.9 fgsm 83.73 92.47 92.88 94.72 96.06
CIFAR-100 VGG-11 0.9 pgd 82.91 99.59 99.86 99.92 99.96
CIFAR-100 VGG-11 0.9* fgsm 32.69 57.19 70.42 70.24 72.41
CIFAR-100 VGG-11 0.9* pgd 27.57 71.98 86.56 83.35 87.68
CIFAR-100 ResNet-17 0.9 fgsm 65.34 86.94 85.66 92.06 94.54
CIFAR-100 ResNet-17 0.9 pgd 45.17 99.65 99.69 99.90 99.96
CIFAR10-DVS VGG-DVS 0.5 fgsm 36.05 50.39 59.08 53.95 61.05
CIFAR10-DVS VGG-DVS 0.5 pgd 38.95 60.00 71.05 62.11 74.08
CIFAR10-DVS VGG-DVS 1.0 fgsm 45.39 69.74 76.97 76.05 78.42
CIFAR10-DVS VGG-DVS 1.0 pgd 54.74 87.11 92.63 89.08 93.03
"""
_BLACK = """
CIFAR-10 VGG-11 0.5 fgsm 43.04 63.44 77.77 79.65 82.68
CIFAR-10 VGG-11 0.5 pgd 23.50 84.21 95.99 95.36 96.74
CIFAR-10 VGG-11 0.9 fgsm 43.45 66.72 73.45 77.28 85.82
CIFAR-10 VGG-11 0.9 pgd 23.98 84.72 95.04 94.69 97.62
CIFAR-10 VGG-11 0.9* fgsm 14.08 25.26 35.83 35.44 38.26
CIFAR-10 VGG-11 0.9* pgd 10.63 31.10 46.06 44.42 47.83
CIFAR-10 VGG-11 1.0 fgsm 43.28 64.25 68.03 73.26 80.34
CIFAR-10 VGG-11 1.0 pgd 24.75 80.55 90.91 91.36 96.22
CIFAR-10 ResNet-17 0.9 fgsm 36.07 69.53 67.11 80.11 84.95
CIFAR-10 ResNet-17 0.9 pgd 15.57 93.72 94.30 98.36 99.28
CIFAR-100 VGG-11 0.9 fgsm 68.33 80.10 80.90 84.27 88.51
CIFAR-100 VGG-11 0.9 pgd 42.45 88.91 93.65 93.91 97.32
CIFAR-100 VGG-11 0.9* fgsm 22.59 37.58 47.20 47.94 50.78
CIFAR-100 VGG-11 0.9* pgd 18.24 41.73 54.40 54.78 57.66
CIFAR-100 ResNet-17 0.9 fgsm 61.22 75.65 74.30 81.19 85.31
CIFAR-100 ResNet-17 0.9 pgd 32.59 91.07 89.13 95.66 98.06
CIFAR10-DVS VGG-DVS 0.5 fgsm 34.87 44.08 47.89 48.55 49.74
CIFAR10-DVS VGG-DVS 0.5 pgd 35.13 47.63 50.53 50.92 53.16
CIFAR10-DVS VGG-DVS 1.0 fgsm 43.03 62.50 66.32 65.79 69.74
CIFAR10-DVS VGG-DVS 1.0 pgd 52.11 70.92 76.45 75.66 78.03
"""

# The others: what differs; then FGSM white-box, FGSM black-box, PGD white-box, PGD black-box, each of some chains.
_TABLE_1 = """
CIFAR-10 VGG-11 4 0.5 59.95 86.42 41.51 99.08
CIFAR-10 VGG-11 4 1.0 64.95 90.28 52.65 98.89
CIFAR-10 VGG-11 8 0.5 60.40 88.34 42.13 99.47
CIFAR-10 VGG-11 8 1.0 71.76 92.56 67.94 99.90
CIFAR10-DVS VGG-DVS 5 0.5 42.44 49.92 44.58 55.57
CIFAR10-DVS VGG-DVS 5 1.0 37.39 55.80 42.46 62.90
CIFAR10-DVS VGG-DVS 10 0.5 36.05 51.18 38.95 58.03
CIFAR10-DVS VGG-DVS 10 1.0 45.39 74.47 54.74 89.61
"""
_TABLE_4 = """
0.5 4 90.07/93.24/95.68 76.22/78.52/80.10 99.88/99.85/99.98 94.59/94.21/94.96
0.5 8 91.71/93.63/96.28 77.77/79.65/82.68 99.92/99.92/100.00 95.99/95.36/96.74
0.5 16 91.86/93.48/95.82 77.49/79.66/83.49 99.95/99.91/99.99 96.12/95.98/97.29
1.0 4 81.89/91.03/92.67 65.52/71.24/76.43 99.17/99.23/99.40 87.48/89.37/92.71
1.0 8 86.28/93.74/96.22 68.03/73.26/80.34 99.70/99.94/99.97 90.91/91.36/96.22
1.0 16 87.49/95.24/96.65 66.89/75.07/81.41 99.88/99.97/99.99 90.86/92.67/97.14
"""
_TABLE_5 = """
0.5 2/255 49.15/45.76/55.91 24.67/22.87/26.41 66.32/62.08/78.33 29.30/28.42/30.50
0.5 4/255 76.30/76.86/83.06 51.28/50.05/54.31 96.99/95.14/98.95 69.43/68.12/71.54
0.5 8/255 91.71/93.63/96.28 77.77/79.65/82.68 99.92/99.92/100.00 95.99/95.36/96.74
1.0 2/255 46.41/44.46/46.76 19.19/19.62/21.89 65.58/61.44/65.26 21.89/21.96/24.75
1.0 4/255 71.82/75.17/78.56 41.48/42.76/47.80 95.28/95.27/96.39 57.29/56.78/64.08
1.0 8/255 86.28/93.74/96.22 68.03/73.26/80.34 99.70/99.94/99.97 90.91/91.36/96.22
"""
_TABLE_A1 = """
0.5 91.71/91.97/96.28 77.77/77.90/82.68 99.95/99.95/100.00 95.99/96.03/96.74
1.0 86.28/90.40/96.22 68.03/72.78/80.34 99.70/99.81/99.97 90.91/94.06/96.22
"""
_TABLE_A2 = """
CIFAR-10 VGG-11 84.71/81.01/88.12 56.82/54.79/58.16
CIFAR-100 VGG-11 90.61/88.26/91.65 65.94/65.69/68.00
"""
_TABLE_A3 = """
4 73.88/79.45/80.80 75.45/81.02/83.00 99.06/99.38/99.41 97.78/98.31/99.02
8 78.69/82.49/85.96 79.31/83.48/87.05 99.56/99.68/99.83 99.36/99.69/99.81
16 79.47/83.46/87.64 80.04/85.44/88.81 99.68/99.80/99.91 99.61/99.77/99.89
"""
_TABLE_A4 = """
0.5 16 71.95/64.78/77.47 46.46/42.26/50.98 81.33/72.11/85.27 50.01/44.59/54.45
0.5 32 72.73/61.73/76.45 52.47/44.67/56.20 81.01/69.70/83.88 57.31/47.73/60.99
1.0 16 77.13/75.68/79.10 40.77/44.08/47.63 87.08/86.48/87.02 43.04/47.21/50.68
1.0 32 77.15/75.93/80.40 46.26/50.66/55.12 87.39/86.91/88.37 50.05/55.28/59.32
"""

_FIVE, _THREE = ("cba", "bptr", "stbp", "rga", "hart"), ("stbp", "rga", "hart")
_ORDER = (("fgsm", "WBA"), ("fgsm", "BBA"), ("pgd", "WBA"), ("pgd", "BBA"))
_HERE = ("CIFAR-10", "VGG-11")


def key(data: str, architecture: str, labels: dict[str, str], attack: str, scenario: str) -> Key:
    """
    :param data: A data set's title.
    :param architecture: An architecture's title.
    :param labels: What else a line says, by name.
    :param attack: An attack's name.
    :param scenario: `"WBA"` or `"BBA"`.
    :return: What stands for that setting.
    """
    return data, architecture, tuple(sorted(labels.items())), attack, scenario


def figures(suite: str) -> dict[Key, dict[str, float]]:
    """
    :param suite: The name of a table of the paper.
    :return: Its rates by setting and chain; nothing for what the paper has no table of.
    """
    return dict(_READ[suite]()) if suite in _READ else {}


Lines = Iterator[tuple[Key, dict[str, float]]]


def _lines(text: str) -> Iterator[list[str]]:
    return (line.split() for line in text.strip().splitlines())


def _rates(text: str, chains: tuple[str, ...]) -> dict[str, float]:
    return dict(zip(chains, map(float, text.split("/")), strict=True))


def _five(text: str, scenario: str) -> Lines:
    for data, architecture, decay, attack, *rates in _lines(text):
        yield key(data, architecture, {"λ": decay}, attack, scenario), _rates("/".join(rates), _FIVE)


def _first() -> Lines:
    for data, architecture, steps, decay, *rates in _lines(_TABLE_1):
        for attack, pair in (("fgsm", rates[:2]), ("pgd", rates[2:])):
            yield (
                key(data, architecture, {"T": steps, "λ": decay}, attack, "WBA"),
                _rates("/".join(pair), ("cba", "rate")),
            )


def _four(text: str, names: tuple[str, ...], chains: tuple[str, ...]) -> Lines:
    for line in _lines(text):
        labels = dict(zip(names, line, strict=False))
        for (attack, scenario), rates in zip(_ORDER, line[len(names) :], strict=True):
            yield key(*_HERE, labels, attack, scenario), _rates(rates, chains)


def _restarts() -> Lines:
    for data, architecture, white, black in _lines(_TABLE_A2):
        for scenario, rates in (("WBA", white), ("BBA", black)):
            yield key(data, architecture, {"λ": "0.9*"}, "pgd", scenario), _rates(rates, _THREE)


def _filtered() -> Lines:
    for steps, *rates in _lines(_TABLE_A3):
        for (attack, decay), found in zip(
            (("fgsm", "0.9"), ("fgsm", "1.0"), ("pgd", "0.9"), ("pgd", "1.0")), rates, strict=True
        ):
            yield key(*_HERE, {"T": steps, "λ": decay}, attack, "WBA"), _rates(found, _THREE)


_READ = {
    "table1": _first,
    "table2": lambda: _five(_WHITE, "WBA"),
    "table3": lambda: _five(_BLACK, "BBA"),
    "table4": lambda: _four(_TABLE_4, ("λ", "T"), _THREE),
    "table5": lambda: _four(_TABLE_5, ("λ", "ε"), _THREE),
    "tableA1": lambda: _four(_TABLE_A1, ("λ",), ("stbp", "stbp-best", "hart")),
    "tableA2": _restarts,
    "tableA3": _filtered,
    "tableA4": lambda: _four(_TABLE_A4, ("λ", "T"), _THREE),
}
