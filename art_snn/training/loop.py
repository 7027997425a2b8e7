"""The training loop: SGD with a cosine schedule, on clean samples or on ART's adversarial ones.

A run can be killed at any moment. Its order, crops and learning rate follow from seed, epoch and step alone, and its
checkpoint is replaced as a whole, so that starting it again leads to the same final weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from art_snn import models
from art_snn import settings as shared
from art_snn.chains import STBP, get_chain
from art_snn.chains.table import TABLE
from art_snn.classifier import PyTorchSNNClassifier
from art_snn.encoders import Encoder, EventFrames, PoissonEncoder, named
from art_snn.files import held, sweep
from art_snn.identity import versions
from art_snn.network import SpikingNetwork
from art_snn.neurons import SpikingLayer
from art_snn.training import batch_memory, checkpoint
from art_snn.training.checkpoint import State
from art_snn.training.data import Data, batches, load
from art_snn.training.networks import NETWORKS
from art_snn.training.parallel import Processes, processes, synchronised
from art_snn.training.settings import TrainSettings

#: Seconds between checkpoints inside an epoch.
CHECKPOINT_EVERY = 300.0
EVALUATION_BATCH = 100
CHECKPOINT = "checkpoint.safetensors"
#: What a run writes to its folder.
FILES = (CHECKPOINT, "network.safetensors", "network.json")
#: Draws of Poisson noise set aside for a step: more than any attack takes.
DRAWS = 1 << 20


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to.

    :param epoch: Its number, from 1.
    :param loss: Mean loss of the samples, when they were learned.
    :param accuracy: Share of them that were classified correctly then.
    :param held_out: Accuracy on the held-out samples.
    :param robust: Accuracy on them under the settings' attack (FGSM if there is none) with the settings' ε.
    :param learning_rate: Learning rate.
    :param seconds: Time of learning.
    """

    epoch: int
    loss: float
    accuracy: float
    held_out: float
    robust: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class TrainResult:
    """A trained network.

    :param path: Its description, `network.json`; `models.load_network` takes it.
    :param history: Its epochs.
    :param accuracy: Accuracy on the test samples.
    :param robust: Accuracy on the first test samples, as many as were held out, under the attack.
    :param rates: Mean firing rate of each spiking layer on those, by the layer's name; empty without spikes.
    """

    path: Path
    history: list[Epoch]
    accuracy: float
    robust: float
    rates: dict[str, float]


def train(
    settings: TrainSettings,
    folder: str | Path,
    *,
    started: Callable[[int, int], None] = lambda epoch, steps: None,
    stepped: Callable[[int, float], None] = lambda step, loss: None,
    finished: Callable[[Epoch], None] = lambda epoch: None,
    tensorboard: bool = False,
    download: bool = False,
) -> TrainResult:
    """Train a network, or go on where an interrupted run stopped.

    Under torchrun, all processes call this with the same settings.

    :param settings: What to train.
    :param folder: Where checkpoint and network are kept; it is made.
    :param started: Called with the epoch's number and its number of steps.
    :param stepped: Called after each step with its index, from 1, and the mean loss so far.
    :param finished: Called after each epoch.
    :param tensorboard: Whether to write the epochs' figures for TensorBoard, to `folder/tensorboard`.
    :param download: Whether to download the data set if it is not there.
    :return: The trained network; if the folder holds it already, as it was.
    :raises FileNotFoundError: If the data set is not there.
    :raises OSError: If it cannot be downloaded.
    :raises FolderInUse: If another run writes to the folder.
    :raises ValueError: If settings and data do not go together, a batch does not fit into memory, or the folder holds a
        run with other settings, other data or, if it is not finished, other versions.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with processes(settings.device) as own, held(folder) if own.leads else nullcontext():
        if own.leads:
            sweep(folder, FILES)
        _done(settings, folder)  # other settings are said before the data is read
        _check_processes(settings, own)
        with own.in_turn():  # what one downloads and decodes, the others on its machine find
            data = load(settings, verbose=own.leads, download=download and own.leads_machine)
        if not own.agree(data.identity):
            raise ValueError(f"root must hold the same data for all processes, that at {settings.root} differs.")
        done = _done(settings, folder, data)
        return done or _Run(settings, folder, own, data, tensorboard).to_the_end(started, stepped, finished)


class _Run:
    def __init__(self, settings: TrainSettings, folder: Path, own: Processes, data: Data, tensorboard: bool) -> None:
        self.settings, self.folder, self.own, self.data = settings, folder, own, data
        self.recipe = {"settings": plain_settings(settings), "data": data.identity, "versions": versions()}
        self.path = folder / CHECKPOINT
        self.network = fresh_network(settings, self.data, own.rank)
        self.classifier = classifier_for(self.network, self.data, settings.device)
        self.device = self.classifier.device
        if own.number > 1:
            synchronised(self.network)
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), settings.learning_rate, settings.momentum, weight_decay=settings.weight_decay
        )
        self.state = checkpoint.read(self.path, self.recipe, self.network, self.optimizer)
        self.attack = attack_for(settings, self.classifier)
        self.parallel = self._parallel()
        self._check_memory()
        self.writer = self._writer() if tensorboard and own.leads else None

    def to_the_end(
        self,
        started: Callable[[int, int], None],
        stepped: Callable[[int, float], None],
        finished: Callable[[Epoch], None],
    ) -> TrainResult:
        steps = len(self.data.learned[0]) // self.settings.batch_size
        for entry in self.state.history:
            finished(Epoch(**entry))
        while self.state.epoch < self.settings.epochs:
            started(self.state.epoch + 1, steps)
            try:
                self._learn(stepped)
            except torch.OutOfMemoryError:
                batch = self.settings.batch_size
                raise batch_memory.MemoryNeeded(
                    f"a batch of {batch} does not fit into memory: try batch_size {max(2, batch // 2)}."
                ) from None
            if self.own.leads:
                finished(self._close_epoch())
            else:
                self.state = State(epoch=self.state.epoch + 1)
        return self._finish()

    def _learn(self, stepped: Callable[[int, float], None]) -> None:
        settings, state = self.settings, self.state
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, state.epoch)
        part = batches(
            settings, self.data, state.epoch, first=state.step, rank=self.own.rank, processes=self.own.number
        )
        before, written = time.monotonic() - state.seconds, time.monotonic()
        for x, y in part:
            self._noise_of(state.epoch, state.step)
            if settings.adversarial:
                x = torch.from_numpy(self.attack.generate(x.numpy(), y.numpy()))
            self.network.train()
            x, y = x.to(self.device), y.to(self.device)
            with self._precision():
                logits = self.parallel(x)
            loss = nn.functional.cross_entropy(logits, y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            state.step += 1
            state.seen += len(x)
            state.loss += float(loss.detach()) * len(x)
            state.correct += int((logits.detach().argmax(1) == y).sum())
            state.seconds = time.monotonic() - before
            if not math.isfinite(state.loss):
                raise ValueError(
                    f"the loss is not finite in epoch {state.epoch + 1}: learning_rate {settings.learning_rate:g} "
                    "may be too high."
                )
            stepped(state.step, state.loss / state.seen)
            if self.own.leads and time.monotonic() - written > CHECKPOINT_EVERY:
                self._write()
                written = time.monotonic()

    def _close_epoch(self) -> Epoch:
        state = self.state
        x, y = self.data.held_out
        self._noise_of(state.epoch, state.step)
        epoch = Epoch(
            state.epoch + 1,
            state.loss / state.seen,
            state.correct / state.seen,
            accuracy(self.classifier, x, y),
            robust_accuracy(self.attack, self.classifier, x, y),
            learning_rate(self.settings, state.epoch),
            state.seconds,
        )
        self.state = State(epoch=state.epoch + 1, history=[*state.history, asdict(epoch)])
        self._write()
        if self.writer is not None:
            for name, value in asdict(epoch).items():
                self.writer.add_scalar(name, value, epoch.epoch)
            self.writer.flush()
        return epoch

    def _finish(self) -> TrainResult:
        if self.own.leads:
            self._noise_of(self.settings.epochs, 0)
            x, y = (part[: len(self.data.held_out[0])] for part in self.data.test)
            training = self.recipe | {
                "scale": self.data.scale,
                "history": self.state.history,
                "accuracy": accuracy(self.classifier, *self.data.test),
                "robust": robust_accuracy(self.attack, self.classifier, x, y),
                "firing_rates": firing_rates(self.classifier, x),
                "bytes_per_sample": self.bytes_per_sample,
            }
            models.save_network(self.network.eval(), self.folder / "network", training=training)
            self.path.unlink(missing_ok=True)
            if self.writer is not None:
                self.writer.close()
        if self.own.number > 1:
            torch.distributed.barrier()
        done = _done(self.settings, self.folder, self.data)
        assert done is not None
        return done

    def _noise_of(self, epoch: int, step: int) -> None:
        """Draw Poisson noise that follows from seed, epoch and step, like order and crops."""
        if isinstance(encoder := getattr(self.network, "encoder", None), PoissonEncoder):
            steps = len(self.data.learned[0]) // self.settings.batch_size
            encoder.draws = (epoch * (steps + 1) + step) * DRAWS

    def _write(self) -> None:
        checkpoint.write(self.path, self.recipe, self.state, self.network, self.optimizer)

    def _parallel(self) -> nn.Module:
        if self.own.number == 1:
            return self.network
        devices = [self.own.local_rank] if self.settings.device == "gpu" else None
        return DistributedDataParallel(self.network, device_ids=devices, broadcast_buffers=False)

    def _check_memory(self) -> None:
        x, y = self.data.learned
        self.network.train()
        if self.own.number > 1:  # its batch norms would wait for the other processes
            self.bytes_per_sample = None
            return
        with self._precision():
            self.bytes_per_sample = batch_memory.check(
                self.network,
                torch.from_numpy(x[:2]).to(self.device),
                torch.from_numpy(y[:2]).to(self.device),
                self.settings.batch_size,
                f"{self.settings.network} at T = {self.settings.time_steps}",
            )

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.mixed_precision)

    def _writer(self) -> Any:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ValueError("tensorboard is not installed: pip install 'art-snn[tensorboard]'.") from None
        return SummaryWriter(str(self.folder / "tensorboard"))


def _check_processes(settings: TrainSettings, own: Processes) -> None:
    if settings.batch_size % own.number or settings.batch_size // own.number < 2:
        raise ValueError(
            f"batch_size must be a multiple of the number of processes, {own.number}, with at least two samples "
            f"for each, got {settings.batch_size}."
        )
    if own.number > 1 and get_chain(settings.training_chain) != STBP():
        raise ValueError("training_chain must be STBP in several processes: they share batch norm's statistics.")


def plain_settings(settings: TrainSettings) -> dict[str, Any]:
    """
    :param settings: What is trained.
    :return: The same as JSON gives it back.
    """
    plain = asdict(settings)
    return plain | {"size": None if settings.size is None else list(settings.size)}


def learning_rate(settings: TrainSettings, epoch: int) -> float:
    """Cosine annealing without restarts (Loshchilov & Hutter, 2016, Eq. 5).

    :param settings: What is trained.
    :param epoch: Index of the epoch.
    :return: Its learning rate.
    """
    return 0.5 * settings.learning_rate * (1.0 + math.cos(math.pi * epoch / settings.epochs))


def fresh_network(settings: TrainSettings, data: Data, rank: int = 0) -> Any:
    """
    :param settings: What is trained.
    :param data: On what.
    :param rank: Index of the process: each draws Poisson noise of its own.
    :return: The network, with weights of the settings' seed.
    """
    encoder: Encoder | None = EventFrames() if settings.of_events else None
    if not settings.of_events and not shared.is_default(settings, "encoder"):
        encoder = named(settings.encoder, noise_seed(settings.seed, rank))
    arguments: dict[str, Any] = {
        "time_steps": settings.time_steps,
        "decay": settings.decay,
        "threshold": settings.threshold,
        "reset": settings.reset,
        "encoder": encoder,
        "spiking": settings.spiking,
    }
    arguments |= NETWORKS[settings.network].arguments(settings.width, data.learned[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = NETWORKS[settings.network].build(data.input_shape[-3:], data.nb_classes, **arguments)
    if isinstance(network, SpikingNetwork):
        network.training_chain = get_chain(settings.training_chain)
    return network


def noise_seed(seed: int, rank: int) -> int:
    """
    :param seed: The run's seed, that of the first process's noise and of the network on disk.
    :param rank: Index of the process.
    :return: The seed of its noise, which no other process has, whatever the run's seed.
    """
    return seed if rank == 0 else int(np.random.SeedSequence([seed, rank]).generate_state(1, np.uint64)[0])


def classifier_for(network: nn.Module, data: Data, device: str) -> PyTorchClassifier:
    """
    :param network: The network, spiking or not.
    :param data: What it is trained on.
    :param device: `"cpu"` or `"gpu"`.
    :return: ART's view of it.
    """
    kind = PyTorchSNNClassifier if isinstance(network, SpikingNetwork) else PyTorchClassifier
    return kind(
        network,
        nn.CrossEntropyLoss(),
        data.input_shape,
        data.nb_classes,
        clip_values=data.clip_values,
        device_type=device,
    )


def attack_for(settings: TrainSettings, classifier: PyTorchClassifier) -> Any:
    """
    :param settings: What is trained: attack, ε, chain and γ.
    :param classifier: The classifier; a spiking one follows the chain from now on.
    :return: ART's attack, FGSM where the settings name none.
    """
    if isinstance(classifier, PyTorchSNNClassifier):
        classifier.chain = TABLE[settings.chain].chain(settings.gamma)
    return settings.robust_under.on(
        classifier,
        eps=settings.eps,
        batch_size=settings.batch_size,
        steps=settings.steps,
        step_size=settings.alpha,
    )


def accuracy(classifier: PyTorchClassifier, x: np.ndarray, y: np.ndarray) -> float:
    """
    :param classifier: The classifier; it is in evaluation mode afterwards.
    :param x: Inputs `(N, *input_shape)`.
    :param y: Labels `(N,)`.
    :return: Share of correct predictions.
    :raises ValueError: If a logit is not finite, so that nothing is predicted.
    """
    logits = classifier.predict(x, batch_size=EVALUATION_BATCH)
    if not np.isfinite(logits).all():
        raise ValueError("the network's logits are not finite: learning_rate may be too high.")
    return float((logits.argmax(1) == y).mean())


def robust_accuracy(attack: Any, classifier: PyTorchClassifier, x: np.ndarray, y: np.ndarray) -> float:
    """
    :param attack: ART's attack on the classifier.
    :param classifier: The classifier.
    :param x: Inputs `(N, *input_shape)`.
    :param y: Labels `(N,)`.
    :return: Share of correct predictions under the attack.
    """
    return accuracy(classifier, attack.generate(x, y), y)


def firing_rates(classifier: PyTorchClassifier, x: np.ndarray) -> dict[str, float]:
    """
    :param classifier: The classifier.
    :param x: Inputs `(N, *input_shape)`.
    :return: Mean firing rate of each spiking layer, by name; empty without spikes.
    """
    rates: dict[str, list[float]] = {}
    handles = [
        module.register_forward_hook(
            lambda _module, _args, spikes, name=name: rates.setdefault(name, []).append(float(spikes.mean()))
        )
        for name, module in classifier.model.named_modules()
        if isinstance(module, SpikingLayer)
    ]
    try:
        for sample in x:  # one by one, so that the mean of means is the mean
            classifier.predict(sample[None])
    finally:
        for handle in handles:
            handle.remove()
    return {name: float(np.mean(values)) for name, values in rates.items()}


def _done(settings: TrainSettings, folder: Path, data: Data | None = None) -> TrainResult | None:
    """The network that a finished run left in the folder, trained as is asked now; on this data, once it is read."""
    path = folder / "network.json"
    if not all(path.with_suffix(suffix).exists() for suffix in (".json", ".safetensors")):
        return None
    training = models.describe(path)["training"]
    now = {"settings": plain_settings(settings)} | ({} if data is None else {"data": data.identity})
    checkpoint.check_same(path, training, now)
    try:
        history = [Epoch(**entry) for entry in training["history"]]
        figures = (training["accuracy"], training["robust"], training["firing_rates"])
    except (KeyError, TypeError) as error:
        raise models.DamagedNetwork(
            f"{path} does not say how it was trained ({error!r}); give another folder."
        ) from None
    return TrainResult(path, history, *figures)
