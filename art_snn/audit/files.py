"""An audit's findings on disk: what they are, which is read again, and what is drawn from it.

`results.json` has every number and every setting, `examples.npz` and `worst_case.npz` the arrays. All other files are
drawn from those, without a network: tables, figures, and `report.html`, which has them all.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from art_snn.audit import figures, frame, html, pictures, tables
from art_snn.audit.examples import LayerSpikes, Raster
from art_snn.audit.metrics import Row
from art_snn.audit.protocol import AuditResult
from art_snn.audit.settings import AuditSettings
from art_snn.evaluation import Flag, WorstCase
from art_snn.files import json_text, replacing

#: Version of the form of `results.json`.
SCHEMA = 4

NUMBERS, EXAMPLES, WORST = "results.json", "examples.npz", "worst_case.npz"


class NoFindings(ValueError):
    """A folder that holds no audit's findings, or damaged ones; the message names the file."""


def write_files(result: AuditResult, folder: Path) -> list[Path]:
    """Write the findings: `results.json`, all numbers; `examples.npz`, the arrays of a few examples, where there are
    some; `worst_case.npz`, the worst case with its adversarial inputs, if there is one; and what :func:`draw` makes.

    :param result: An audit's findings.
    :param folder: Where to; it exists.
    :return: The files' paths.
    :raises ValueError: If the rows are not of the same samples.
    :raises OSError: If one cannot be written; it names the file.
    """
    result.check()
    writers: dict[str, Callable[[AuditResult, Path], None] | None] = {
        NUMBERS: _write_numbers,
        EXAMPLES: _write_examples if result.examples else None,
        WORST: _write_worst_case if result.worst is not None else None,
    }
    return [*_written(result, folder, writers), *draw(result, folder)]


def draw(result: AuditResult, folder: Path) -> list[Path]:
    """Draw what the findings show: `results.csv` and `results.parquet`, a row for each cell; `samples.parquet`, a row
    for each sample of each; `tables.md` and `tables.tex`; each figure as PNG and PDF; and `report.html`.

    A figure of an earlier audit that this one does not have is deleted.

    :param result: An audit's findings.
    :param folder: Where to; it exists.
    :return: The files' paths.
    :raises ValueError: If the rows are not of the same samples.
    :raises OSError: If one cannot be written; it names the file.
    """
    result.check()
    written = _written(
        result,
        folder,
        {
            "results.csv": lambda found, path: frame.cells(found).to_csv(path, index=False, encoding="utf-8"),
            "results.parquet": lambda found, path: frame.cells(found).to_parquet(path, index=False),
            "samples.parquet": lambda found, path: frame.samples(found).to_parquet(path, index=False),
            "tables.md": lambda found, path: _write_tables(found, path, tables.markdown),
            "tables.tex": lambda found, path: _write_tables(found, path, tables.latex),
        },
    )
    drawn = []
    for figure in (*figures.all_figures(result), *pictures.all_pictures(result)):
        drawn.append((figure, figure.png()))
        for suffix, content in (("png", drawn[-1][1]), ("pdf", figure.pdf())):
            written.append(folder / f"{figure.name}.{suffix}")
            with replacing(written[-1]) as temporary:
                temporary.write_bytes(content)
    for name in {*figures.NAMES, *pictures.NAMES} - {figure.name for figure, _ in drawn}:
        for suffix in ("png", "pdf"):
            (folder / f"{name}.{suffix}").unlink(missing_ok=True)
    written.append(folder / "report.html")
    with replacing(written[-1]) as temporary:
        temporary.write_text(html.page(result, drawn), encoding="utf-8")
    return written


def load(folder: str | Path) -> AuditResult:
    """
    :param folder: A folder that :func:`write_files` wrote to.
    :return: The findings; no network counts as trained by that.
    :raises NoFindings: If there are none, or of another version, or its files do not belong together.
    """
    path = Path(folder) / NUMBERS
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NoFindings(f"{folder} is no folder of an audit: it has no {NUMBERS}.") from None
    except (ValueError, RecursionError) as error:
        raise NoFindings(f"{path} is no JSON file: {error}.") from None
    schema = plain.get("schema") if isinstance(plain, dict) else None
    if schema is True or schema != SCHEMA:
        raise NoFindings(f"{path} is of schema {schema!r}, this art-snn reads {SCHEMA}: run the audit again.")
    try:
        result = _from_dict(plain)
        _read_arrays(result, Path(folder), plain)
    except NoFindings:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise NoFindings(f"{path} is not as an audit writes it ({type(error).__name__}: {error}).") from None
    return result


def as_dict(result: AuditResult) -> dict[str, Any]:
    """
    :param result: An audit's findings.
    :return: Every number, all settings, seeds and versions, as plain values. `outcomes` has one letter for each sample,
        in the order of `attacked_samples`: f, fooled by the attack; r, not; w, wrong before it.
    """
    return {
        "schema": SCHEMA,
        "settings": asdict(result.settings),
        "target": result.description,
        "seeds": result.seeds,
        "data": result.data,
        "versions": result.versions,
        "clean_accuracy": {"target": result.accuracy[0], "second": result.accuracy[1]},
        "held_out_samples": result.held_out,
        "attacked_samples": result.attacked,
        "checks": [asdict(check) for check in result.checks],
        "worst_case": None if result.worst is None else _timeless(result.worst.as_dict()),
        "results": [row.as_dict() for row in result.rows],
        "gamma_search": [row.as_dict() for row in result.search],
        "examples": None if not result.examples else _about_examples(result),
    }


def _from_dict(plain: dict[str, Any]) -> AuditResult:
    """What :func:`as_dict` gave, without arrays."""
    settings: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in plain["settings"].items()}
    accuracy = plain["clean_accuracy"]
    result = AuditResult(
        AuditSettings(**settings),
        plain["target"],
        plain["seeds"],
        (accuracy["target"], accuracy["second"]),
        (False, False),
        plain["held_out_samples"],
        plain["attacked_samples"],
        plain["data"],
        [Row.from_dict(row) for row in plain["results"]],
        [Row.from_dict(row) for row in plain["gamma_search"]],
        checks=[Flag(**check) for check in plain["checks"]],
        versions=plain["versions"],
    )
    return result


def _read_arrays(result: AuditResult, folder: Path, plain: dict[str, Any]) -> None:
    """Worst case and examples, if there are some."""
    if (worst := plain["worst_case"]) is not None:
        result.worst = _opened(folder / WORST, WorstCase.load)
        if result.worst.fooled_by.tolist() != worst["fooled_by"]:
            raise NoFindings(f"{folder / WORST} and {folder / NUMBERS} are not of one audit: run it again.")
    if (about := plain["examples"]) is not None:
        arrays = _opened(folder / EXAMPLES, _arrays)
        result.examples = {name: arrays[f"inputs/{name}"] for name in about["inputs"]}
        result.classes = {name: np.asarray(classes) for name, classes in about["classes"].items()}
        if (raster := about["raster"]) is not None:
            layers = [
                LayerSpikes(**layer | {"rates": tuple(layer["rates"]), "spikes": arrays[f"spikes/{number}"]})
                for number, layer in enumerate(raster["layers"])
            ]
            result.raster = Raster(raster["sample"], raster["chain"], layers)


def _opened(path: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(path)
    except FileNotFoundError:
        raise NoFindings(f"{path} is missing: give the audit's command again.") from None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise NoFindings(f"{path} is damaged ({error}): give the audit's command again.") from None


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def _about_examples(result: AuditResult) -> dict[str, Any]:
    """What is said of the arrays in `examples.npz`."""
    raster = None
    if result.raster is not None:
        layers = [asdict(replace(layer, spikes=np.empty(0))) for layer in result.raster.layers]
        for layer in layers:
            del layer["spikes"]
        raster = {"sample": result.raster.sample, "chain": result.raster.chain, "layers": layers}
    classes = {name: [int(number) for number in found] for name, found in result.classes.items()}
    return {"inputs": list(result.examples), "classes": classes, "raster": raster}


def _timeless(worst: dict[str, Any]) -> dict[str, Any]:
    """A worst case without what differs from run to run."""
    for member in worst["members"]:
        del member["seconds"]
    return worst


def _written(
    result: AuditResult, folder: Path, writers: dict[str, Callable[[AuditResult, Path], None] | None]
) -> list[Path]:
    """Write what there is to write; what an earlier audit left of the rest is deleted."""
    for name, write in writers.items():
        if write is None:
            (folder / name).unlink(missing_ok=True)
            continue
        with replacing(folder / name) as temporary:
            write(result, temporary)
    return [folder / name for name, write in writers.items() if write is not None]


def _write_numbers(result: AuditResult, path: Path) -> None:
    path.write_text(json_text(as_dict(result)), encoding="utf-8")


def _write_examples(result: AuditResult, path: Path) -> None:
    arrays = {f"inputs/{name}": x for name, x in result.examples.items()}
    if result.raster is not None:
        arrays |= {f"spikes/{number}": layer.spikes for number, layer in enumerate(result.raster.layers)}
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _write_worst_case(result: AuditResult, path: Path) -> None:
    assert result.worst is not None
    result.worst.save(path)


def _write_tables(result: AuditResult, path: Path, form: Callable[[tables.Table], str]) -> None:
    path.write_text("\n".join(map(form, tables.all_tables(result))), encoding="utf-8")
