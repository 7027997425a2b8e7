"""What a gradient costs, in units of a prediction on the same batch: `python -m benchmarks.gradient --help`.

Every figure is a ratio within one run: in each round all candidates run in turn, each is divided by that round's
`predict`, and the median over the rounds is printed. Peak memory is that of processes of their own, fresh for every
figure: their median, least and largest, since allocators do not repeat themselves.
"""

from __future__ import annotations

import gc
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import metadata
from pathlib import Path

import click
import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from art_snn import PyTorchSNNClassifier, adapt
from art_snn.chains import HART, STBP
from art_snn.files import replacing
from benchmarks import networks

CHAINS = ("hart", "rga", "bptr", "rate", "cba", "stbp", "mixed")
#: Seven γ in one call, as a search for the best one takes them.
GAMMAS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
OTHERS = {"spikingjelly": networks.SpikingJelly, "snntorch": networks.SnnTorch}


class Case:
    """One network at one T, and everything that is timed on it."""

    def __init__(self, name: str, time_steps: int, batch: int, device: str, width: float, others: list[str]) -> None:
        self.network = networks.build(name, time_steps, width)
        self.x = torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(1)).numpy()
        self.y = np.arange(batch) % 10
        self.classifier = PyTorchSNNClassifier(
            self.network, nn.CrossEntropyLoss(), (3, 32, 32), 10, clip_values=(0, 1), device_type=device
        )
        self.others = {
            library: PyTorchClassifier(
                OTHERS[library](self.network).eval(),
                nn.CrossEntropyLoss(),
                (3, 32, 32),
                10,
                clip_values=(0, 1),
                device_type=device,
            )
            for library in others
        }
        #: SpikingJelly's network as it is, its gradient ours.
        self.adapted: PyTorchSNNClassifier | None = None
        if "spikingjelly" in others:
            self.adapted = PyTorchSNNClassifier(
                adapt(networks.SpikingJelly(self.network).body, time_steps).eval(),
                nn.CrossEntropyLoss(),
                (3, 32, 32),
                10,
                clip_values=(0, 1),
                device_type=device,
            )

    def predict(self) -> None:
        self.classifier.predict(self.x, batch_size=len(self.x))

    def gradient(self, chain: str) -> None:
        self.classifier.loss_gradient(self.x, self.y, chain=chain)

    def gradients(self, chains: tuple[str, ...]) -> dict[str, Callable[[], None]]:
        """Candidates by name, `predict` first."""
        candidates: dict[str, Callable[[], None]] = {"predict": self.predict}
        for chain in chains:
            candidates[chain] = lambda chain=chain: self.gradient(chain)
        if "hart" in chains:
            several = [HART(gamma=gamma) for gamma in GAMMAS]
            candidates["seven gamma of hart"] = lambda: self.classifier.loss_gradients(self.x, self.y, several)
        one_hot = np.eye(10, dtype=np.float32)[self.y]
        for library, classifier in self.others.items():
            candidates[f"{library} predict"] = lambda c=classifier: c.predict(self.x, batch_size=len(self.x))
            candidates[f"{library} gradient"] = lambda c=classifier: c.loss_gradient(self.x, one_hot)
        if self.adapted is not None:
            adapted = self.adapted
            candidates["adapted predict"] = lambda: adapted.predict(self.x, batch_size=len(self.x))
            for chain in (name for name in ("hart", "stbp") if name in chains):
                candidates[f"adapted {chain}"] = lambda chain=chain: adapted.loss_gradient(self.x, self.y, chain=chain)
        return candidates

    def training_steps(self) -> dict[str, Callable[[], None]]:
        """One step of training by name, the network's own STBP first."""
        x = torch.from_numpy(self.x).to(self.classifier.device)
        y = torch.from_numpy(self.y).to(self.classifier.device)

        def step(model: nn.Module) -> None:
            model.train()
            optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()

        def by(chain: STBP | HART) -> None:
            self.network.training_chain = chain
            step(self.network)

        steps: dict[str, Callable[[], None]] = {
            "STBP training step": lambda: by(STBP()),
            "HART training step": lambda: by(HART()),
        }
        for library, classifier in self.others.items():
            steps[f"{library} training step"] = lambda c=classifier: step(c.model)
        return steps


def rounds_of(candidates: dict[str, Callable[[], None]], rounds: int, label: str) -> dict[str, dict[str, float]]:
    """Time all candidates in turn, `rounds` times after two to warm up; seconds, and ratio to the first candidate.

    What a gradient claims is compared in its first calls, the 1st, 2nd and 4th: the medians are of calls without.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for round_ in track(range(-2, rounds), label, console=Console(stderr=True), transient=True):
        for name, run in candidates.items():
            gc.collect()
            _wait()
            start = time.perf_counter()
            run()
            _wait()
            if round_ >= 0:
                seconds[name].append(time.perf_counter() - start)
    first = seconds[next(iter(candidates))]
    return {
        name: {
            "seconds": statistics.median(times),
            "ratio": statistics.median(t / base for t, base in zip(times, first, strict=True)),
        }
        for name, times in seconds.items()
    }


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_memory(arguments: dict[str, object], candidate: str, processes: int) -> list[float]:
    """Peak memory in MiB of fresh processes that run one candidate three times, one for each process."""
    code = f"from benchmarks.gradient import memory_of; memory_of({arguments!r}, {candidate!r})"
    run = partial(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [float(run().stdout.strip().splitlines()[-1]) for _ in range(processes)]


def memory_of(arguments: dict[str, object], candidate: str) -> None:
    """Print this process's peak memory in MiB while it runs a candidate; see :func:`peak_memory`."""
    case = Case(**arguments)
    run = case.gradients(CHAINS)[candidate]
    on_gpu = torch.cuda.is_available() and arguments["device"] == "gpu"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    else:
        forget_peak()
    for _ in range(3):  # the first two compare numbers, see art_snn.engine.compare
        run()
    print(torch.cuda.max_memory_allocated() / 2**20 if on_gpu else peak_resident_mib())


def forget_peak() -> None:
    """Begin :func:`peak_resident_mib` anew, where the system can: building a network takes more than to use it."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_resident_mib() -> float:
    """Peak memory of this process in MiB, since :func:`forget_peak` where the system can."""
    status = Path("/proc/self/status")
    if status.exists():  # there, getrusage would also count the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


@click.command(help="Time and memory of every chain's gradient, in ratio to a prediction on the same batch.")
@click.option("--network", "names", multiple=True, default=["vgg11", "resnet17"], show_default=True)
@click.option("--time-steps", multiple=True, type=click.IntRange(min=1), default=[4, 8, 16, 32], show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True)
@click.option("--width", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "gpu"]), default="cpu", show_default=True)
@click.option("--chains", multiple=True, type=click.Choice(CHAINS), default=CHAINS, show_default=True)
@click.option("--others/--no-others", default=True, help="Compare with SpikingJelly and snnTorch, where installed.")
@click.option("--training/--no-training", default=True, help="Time training steps too.")
@click.option("--memory/--no-memory", default=True, help="Measure peak memory too.")
@click.option("--processes", type=click.IntRange(min=1), default=5, show_default=True, help="For each peak of memory.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures as JSON.")
def main(
    names: tuple[str, ...],
    time_steps: tuple[int, ...],
    batch: int,
    width: float,
    rounds: int,
    device: str,
    chains: tuple[str, ...],
    others: bool,
    training: bool,
    memory: bool,
    processes: int,
    out: Path | None,
) -> None:
    libraries = [library for library in OTHERS if others and networks.installed(library)]
    console = Console()
    results = []
    for name in names:
        for steps in time_steps:
            arguments = {
                "name": name,
                "time_steps": steps,
                "batch": batch,
                "device": device,
                "width": width,
                "others": libraries,
            }
            case = Case(**arguments)
            rates = networks.firing_rates(case.network, torch.from_numpy(case.x).to(case.classifier.device))
            figures = rounds_of(case.gradients(chains), rounds, f"{name}, T = {steps}")
            if training:
                figures |= rounds_of(case.training_steps(), rounds, f"{name}, T = {steps}, training")
            del case
            if memory:
                for candidate in figures:
                    if "training" not in candidate:
                        figures[candidate]["peaks_mib"] = peak_memory(arguments, candidate, processes)
            results.append({**arguments, "firing_rates": rates, "figures": figures})
            console.print(table(results[-1]))
        if out is not None:
            with replacing(out) as temporary:
                report = {"machine": machine(), "rounds": rounds, "results": results}
                temporary.write_text(json.dumps(report, indent=2) + "\n")


def table(result: dict) -> Table:
    """One network at one T, as a table."""
    view = Table(title=f"{result['name']}, T = {result['time_steps']}, batch {result['batch']}, {result['device']}")
    for column in ("", "seconds", "ratio", "peak memory, MiB (least to largest)"):
        view.add_column(column, justify="left" if not column else "right")
    for name, figure in result["figures"].items():
        peaks = figure.get("peaks_mib")
        memory = f"{statistics.median(peaks):.0f} ({min(peaks):.0f} to {max(peaks):.0f})" if peaks else ""
        view.add_row(name, f"{figure['seconds']:.3f}", f"{figure['ratio']:.2f}", memory)
    view.caption = (
        "ratio: to predict; of a training step, to the STBP training step. "
        f"Mean firing rates of the layers {min(result['firing_rates']):.2f} to {max(result['firing_rates']):.2f}."
    )
    return view


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    versions = {}
    for package in ("torch", "adversarial-robustness-toolbox", "spikingjelly", "snntorch"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": versions,
    }


if __name__ == "__main__":
    main()
