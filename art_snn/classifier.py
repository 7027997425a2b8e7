"""The classifier that ART sees: its own `PyTorchClassifier`, with a choice of the backward chain."""

from __future__ import annotations

import copy
import logging
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from art.defences.postprocessor import Postprocessor
from art.estimators.classification import PyTorchClassifier
from art.preprocessing.standardisation_mean_std.numpy import StandardisationMeanStd
from art.preprocessing.standardisation_mean_std.pytorch import StandardisationMeanStdPyTorch
from torch import nn

from art_snn.chains import BackwardChain, get_chain
from art_snn.chains.state import one_gradient
from art_snn.encoders import PoissonEncoder
from art_snn.engine.isolate import left_alone
from art_snn.engine.route import warn_of_health
from art_snn.network import SpikingNetwork

logger = logging.getLogger(__name__)

Array = Any  # a numpy array or a torch tensor

#: Numpy's kinds of real numbers, and of what holds them.
REAL = "biufO"


class PyTorchSNNClassifier(PyTorchClassifier):
    """A spiking network as an ART classifier whose attack gradient follows a chosen backward chain.

    Everything that differentiates the network with respect to its input follows `chain`: `loss_gradient`,
    `class_gradient`, and attacks that differentiate `model` themselves. `predict` and `compute_loss` are the true
    spiking network's, `fit` trains it by STBP.

    Every call leaves the network in the mode in which ART's own classifier leaves its model: evaluation mode, unless
    `training_mode=True` was asked for. Inputs and labels may be of any layout and kind of number.

    :param model: The spiking network; `torch.compile(network)` is taken as the network itself, which runs eagerly.
    :param loss: The loss whose gradient attacks follow, of logits `(B, K)` and labels, to a single number.
    :param input_shape: Shape of one input: `(C, H, W)`, or `(T, P, H, W)` for event frames.
    :param nb_classes: Number of classes K >= 2, which is the number of the network's outputs; or 2 with a network of
        one output and a binary loss, `BCELoss` or `BCEWithLogitsLoss`. Compared on a blank sample, and at every pass.
    :param optimizer: The optimizer of `fit`.
    :param chain: The backward chain, a name or an object such as `HART(gamma=0.8)`; the network's own when not given.
    :param gradient_samples: Number n of draws of a random encoder's noise over which `loss_gradient` and
        `class_gradient` average (expectation over transformation). Without noise, or with frozen noise, there is
        nothing to average.
    :param kwargs: All other arguments of ART's `PyTorchClassifier`: `clip_values`, `preprocessing_defences`,
        `postprocessing_defences`, `preprocessing`, `channels_first`, `use_amp`, `opt_level`, `loss_scale` and
        `device_type` (`"gpu"` where there is one, or `"cpu"`).
    :raises TypeError: If `model` is no :class:`~art_snn.SpikingNetwork`.
    :raises ValueError: If an argument is out of its range, the network does not take an input of `input_shape` or has
        another number of outputs, `loss` gives a number for each sample, or `preprocessing` divides by a `std` that is
        not finite and positive.
    """

    estimator_params = [*PyTorchClassifier.estimator_params, "chain", "gradient_samples"]

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        input_shape: tuple[int, ...],
        nb_classes: int,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        chain: str | BackwardChain | None = None,
        gradient_samples: int = 1,
        **kwargs: Any,
    ) -> None:
        network = getattr(model, "_orig_mod", model)  # what torch.compile wraps
        if not isinstance(network, SpikingNetwork):
            raise TypeError(
                f"model must be an art_snn.SpikingNetwork, got {type(model).__name__}: wrap the module that holds the "
                "spiking layers as SpikingNetwork(body, time_steps=...), a network of SpikingJelly, snnTorch or Norse, "
                "or one with a neuron class of its own, by art_snn.adapt(network, time_steps, call=...)."
            )
        input_shape = tuple(input_shape)
        if not input_shape or not all(isinstance(n, (int, np.integer)) and n > 0 for n in input_shape):
            raise ValueError(f"input_shape must be a tuple of positive integers, got {input_shape!r}.")
        if isinstance(nb_classes, bool) or not isinstance(nb_classes, (int, np.integer)) or nb_classes < 2:
            raise ValueError(f"nb_classes must be an integer >= 2, got {nb_classes!r}.")
        network.encoder.check((1, *input_shape), network.time_steps)
        self._outputs: int | None = None  # of the network, once it ran
        self._warned = False
        super().__init__(network, loss, input_shape, int(nb_classes), optimizer=optimizer, **kwargs)
        if chain is not None:
            self.chain = chain
        self.gradient_samples = gradient_samples
        self._layer_names = list(_layers("body", network.body, network.neuron_modules))
        self._check_params()
        if not self.preprocessing_defences:  # what a defence makes of a blank sample says nothing
            self._run_blank_sample()

    def _check_params(self) -> None:
        super()._check_params()
        if self._outputs is not None:
            self._compare_outputs(self._outputs)
        if self._loss_is_by_sample():
            raise ValueError(
                "loss must give one number for a batch, whose gradient attacks follow, got one for each sample: use "
                "reduction='mean' or 'sum'. (compute_loss gives each sample's whatever the reduction.)"
            )
        for operation in self.preprocessing_operations:
            if isinstance(operation, (StandardisationMeanStd, StandardisationMeanStdPyTorch)):
                mean, std = np.float32(operation.mean), np.float32(operation.std)
                if not np.isfinite(mean).all():
                    raise ValueError(f"preprocessing=(mean, std): mean must hold finite numbers, got {mean}.")
                if not (np.isfinite(std) & (std > 0)).all():
                    raise ValueError(f"preprocessing=(mean, std): std must hold finite numbers > 0, got {std}.")

    def _run_blank_sample(self) -> None:
        """Run the network once, so that what is claimed of it is compared; it is left as it was."""
        low = 0.0 if self.clip_values is None else np.min(self.clip_values[0])
        x, _ = self._apply_preprocessing(np.full((1, *self.input_shape), low, np.float32), y=None, fit=False)
        network = self.model
        encoder, randomness = network.encoder, network.randomness
        modes = [(module, module.training) for module in network.modules()]
        # Nothing of their noise is drawn.
        network.encoder, network.randomness = copy.deepcopy(encoder), copy.deepcopy(randomness)
        if isinstance(network.encoder, PoissonEncoder):
            network.encoder.unfreeze()  # noise that was given may be that of a whole batch
        for module, _ in modes:
            module.training = False
        try:
            with left_alone(network), torch.no_grad():
                logits = network(torch.from_numpy(x).to(self._device))
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise ValueError(
                f"model does not run on a blank input of input_shape {self.input_shape}: {error}"
            ) from error
        finally:
            network.encoder, network.randomness = encoder, randomness
            for module, training in modes:
                module.training = training
        self._compare_outputs(logits.shape[1])

    def _make_model_wrapper(self, model: nn.Module) -> nn.Module:
        wrapper, me = super()._make_model_wrapper(model), weakref.ref(self)

        def compare(_wrapper: nn.Module, _inputs: Any, outputs: list[torch.Tensor]) -> None:
            classifier = me()
            if classifier is not None:
                classifier._compare_outputs(outputs[-1].shape[1])

        wrapper.register_forward_hook(compare)
        return wrapper

    def _compare_outputs(self, outputs: int) -> None:
        if outputs != self.nb_classes and not (outputs == 1 and self.nb_classes == 2):
            raise ValueError(
                f"nb_classes must be the number of the network's outputs, {outputs}, got {self.nb_classes}."
            )
        self._outputs = outputs

    @property
    def _one_output(self) -> bool:
        """Whether two classes share one output; before the network ran, whether the loss is one for that."""
        if self._outputs is None:
            return self.nb_classes == 2 and isinstance(self._loss, (nn.BCELoss, nn.BCEWithLogitsLoss))
        return self._outputs == 1

    def _loss_is_by_sample(self) -> bool:
        """Whether the loss gives a number for each sample; a loss of one's own is tried on two."""
        if getattr(self._loss, "reduction", "") == "none":
            return True
        labels = torch.eye(1, self.nb_classes, device=self._device).repeat(2, 1)
        try:
            labels = labels[:, 1:2] if self._one_output else self.reduce_labels(labels)
            value = copy.deepcopy(self._loss)(
                torch.zeros(2, self._outputs or self.nb_classes).to(labels.device), labels
            )
        except Exception:  # it takes other labels than these, and will say so itself
            return False
        return isinstance(value, torch.Tensor) and value.numel() != 1

    @property
    def gradient_samples(self) -> int:
        """Number of draws of a random encoder's noise over which a gradient is averaged."""
        return self._gradient_samples

    @gradient_samples.setter
    def gradient_samples(self, samples: int) -> None:
        if isinstance(samples, bool) or not isinstance(samples, (int, np.integer)) or samples < 1:
            raise ValueError(f"gradient_samples must be an integer >= 1, got {samples!r}.")
        self._gradient_samples = int(samples)

    @property
    def chain(self) -> BackwardChain:
        """The backward chain that attacks follow; assign a chain or a name to switch."""
        return self.model.chain

    @chain.setter
    def chain(self, chain: str | BackwardChain) -> None:
        self.model.chain = chain

    def predict(self, x: np.ndarray, batch_size: int = 128, training_mode: bool = False, **kwargs: Any) -> np.ndarray:
        """
        Logits of the true spiking network.

        :param x: Inputs `(N, *input_shape)`.
        :param batch_size: Batch size.
        :param training_mode: Whether the network's layers are in training mode, and stay so, or in evaluation mode.
        :return: Logits `(N, K)`, after the postprocessing defences. A sample that holds NaN or infinite numbers, which
            attacks can make by a division by zero, gets NaN; a warning says so once.
        :raises ValueError: If `x` has the wrong shape or is empty.
        """
        x = self._checked_input(x, finite=False)
        lost = ~np.isfinite(x).reshape(len(x), -1).all(1)
        if lost.any() and not self._warned:
            self._warned = True
            logger.warning(
                "%d of %d samples hold NaN or infinity: what is predicted for such samples is NaN. This is said once.",
                lost.sum(),
                len(lost),
            )
        with torch.random.fork_rng(devices=[]):  # ART's data loader draws a number
            predictions = super().predict(x, batch_size=batch_size, training_mode=training_mode, **kwargs)
        if lost.any() and len(predictions) == len(lost):  # a defence may have made numbers of the logits' NaN
            predictions = np.where(lost.reshape(-1, *[1] * (predictions.ndim - 1)), np.nan, predictions)
        return predictions

    def compute_loss(self, x: Array, y: Array, reduction: str = "none", **kwargs: Any) -> Array:
        """
        Loss of the true spiking network, whatever the chain.

        :param x: Inputs `(N, *input_shape)`, an array or a tensor.
        :param y: Labels, one-hot `(N, K)` or indices `(N,)`.
        :param reduction: `"none"`, `"mean"` or `"sum"`.
        :return: Loss, of the kind of `x`; `(N,)` with `"none"`, `(N, 1)` of a network of one output. A tensor carries
            no graph.
        :raises ValueError: If `x` or `y` do not fit.
        """
        x = self._checked_input(x)
        y = self._checked_labels(y, x, soft=False)
        before = self._loss.reduction
        try:
            with torch.no_grad():
                if self._one_output and isinstance(x, torch.Tensor):  # ART takes binary labels as arrays only
                    loss = super().compute_loss(x.cpu().numpy(), y.cpu().numpy(), reduction=reduction, **kwargs)
                    return torch.as_tensor(loss, device=x.device)
                return super().compute_loss(x, y, reduction=reduction, **kwargs)
        finally:
            self._loss.reduction = before  # also after an error

    def loss_gradient(
        self,
        x: Array,
        y: Array,
        training_mode: bool = False,
        chain: str | BackwardChain | None = None,
        **kwargs: Any,
    ) -> Array:
        """
        Gradient of the loss with respect to `x`, along the chain.

        :param x: Inputs `(N, *input_shape)`, an array or a tensor.
        :param y: Labels, one-hot `(N, K)` or indices `(N,)`.
        :param training_mode: Whether the network's layers are in training mode, and stay so, or in evaluation mode.
        :param chain: The chain for this call only; the classifier's own when not given.
        :return: Gradient of the shape and kind of `x`.
        :raises ValueError: If `x` or `y` do not fit.
        """
        x = self._checked_input(x)
        y = self._checked_labels(y, x)

        return self._expected(lambda: self._loss_gradient(x, y, training_mode, chain, kwargs))

    def loss_gradients(
        self,
        x: Array,
        y: Array,
        chains: Sequence[str | BackwardChain],
        training_mode: bool = False,
        **kwargs: Any,
    ) -> Array:
        """
        Gradients of the loss along several chains, out of one simulation.

        What each is worth is what `loss_gradient` gives; all see the same noise. In units of a pass over one step, the
        simulation costs T, and each chain with a gain 2: seven γ of HART at T = 8 cost 1 + 7 x 2 / 8 predictions.

        :param x: Inputs `(N, *input_shape)`, an array or a tensor.
        :param y: Labels, one-hot `(N, K)` or indices `(N,)`.
        :param chains: The chains or their names, at least one.
        :param training_mode: As for `loss_gradient`.
        :return: Gradients `(len(chains), N, *input_shape)`, of the kind of `x`, in the order of `chains`.
        :raises ValueError: If `x` or `y` do not fit, or `chains` names no chain.
        """
        if isinstance(chains, (str, BackwardChain)) or len(chains) == 0:
            raise ValueError(f"chains must be a sequence of at least one chain, got {chains!r}.")
        followed = [get_chain(chain) for chain in chains]
        x = self._checked_input(x)
        y = self._checked_labels(y, x)
        parts = [part for chain in followed for _, part in self._summands(chain)]

        def gradients() -> Array:
            with self.model.sharing(parts):
                found = [self._loss_gradient(x, y, training_mode, chain, kwargs) for chain in followed]
            return torch.stack(found) if isinstance(x, torch.Tensor) else np.stack(found)

        return self._expected(gradients)

    def _loss_gradient(
        self, x: Array, y: Array, training_mode: bool, chain: str | BackwardChain | None, kwargs: dict[str, Any]
    ) -> Array:
        """One gradient of the loss."""

        def gradient(part: BackwardChain) -> Array:
            with self.following(part), self.model.attacked(), _graph():
                found = super(PyTorchSNNClassifier, self).loss_gradient(x, y, training_mode=training_mode, **kwargs)
            if self.model.health is not None and self.model.health.share:  # here a flat loss is saturated
                warn_of_health(self.model)
            return found

        return self._summed(gradient, chain)

    def class_gradient(
        self,
        x: np.ndarray,
        label: int | list[int] | np.ndarray | None = None,
        training_mode: bool = False,
        chain: str | BackwardChain | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """
        Gradient of logits with respect to `x`, along the chain.

        :param x: Inputs `(N, *input_shape)`.
        :param label: The class whose logit is differentiated: one for all, one per sample, or all classes if None.
        :param training_mode: Whether the network's layers are in training mode, and stay so, or in evaluation mode.
        :param chain: The chain for this call only; the classifier's own when not given.
        :return: Gradients `(N, K, *input_shape)`, or `(N, 1, *input_shape)` with `label`.
        :raises ValueError: If `x` or `label` do not fit.
        """
        x = np.require(self._checked_input(x), requirements="W")  # torch warns of an array that it cannot write to
        self._check_class(label, len(x))

        def gradient(part: BackwardChain) -> np.ndarray:
            with self.following(part), self.model.attacked(), _graph():
                return super(PyTorchSNNClassifier, self).class_gradient(
                    x, label=label, training_mode=training_mode, **kwargs
                )

        return self._expected(lambda: self._summed(gradient, chain))

    def custom_loss_gradient(
        self, loss_fn: Any, x: np.ndarray, y: np.ndarray, layer_name: int | str, training_mode: bool = False
    ) -> np.ndarray:
        """
        Gradient of a distance between a layer's activations for `x` and for `y`, along the chain.

        :param loss_fn: The distance: a function of the difference of the activations, and of `p`, which is 2.
        :param x: Inputs `(N, *input_shape)`.
        :param y: Inputs of the same shape.
        :param layer_name: As for `get_activations`.
        :param training_mode: Without effect, as in ART: the network is in evaluation mode.
        :return: Gradient of the shape of `x`.
        :raises ValueError: If `x` or `y` do not fit, or there is no such layer.
        """
        x, y = self._checked_input(x), self._checked_input(y)
        with _graph():
            return super().custom_loss_gradient(loss_fn, x, y, layer_name, training_mode=training_mode)

    def get_activations(
        self, x: Array, layer: int | str | None = None, batch_size: int = 128, framework: bool = False
    ) -> Array:
        """
        A layer's output, averaged over time: of a spiking layer, its firing rates.

        :param x: Inputs `(N, *input_shape)`, an array or a tensor.
        :param layer: Index into `layer_names`, or the name of any module inside the network's body. Of a module that
            runs several times in a pass, its last run counts.
        :param batch_size: Batch size.
        :param framework: Whether to return a tensor; if `x` is one that requires a gradient, it is differentiable in
            `x` along the chain (CBA gives its activation network's values). Otherwise an array comes back.
        :return: Activations `(N, ...)`.
        :raises ValueError: If `x` does not fit, or there is no such layer.
        """
        x = self._checked_input(x)
        names = dict(self.model.named_modules())
        if isinstance(layer, (int, np.integer)) and -len(self._layer_names) <= layer < len(self._layer_names):
            layer = self._layer_names[layer]
        if not isinstance(layer, str) or not layer.startswith("body") or layer not in names:
            raise ValueError(
                f"layer must be one of {self._layer_names}, or an index from 0 to {len(self._layer_names) - 1}, "
                f"got {layer!r}."
            )
        network = self.model.tapped(names[layer])
        differentiable = framework and isinstance(x, torch.Tensor) and x.requires_grad

        def activations(part: Array) -> torch.Tensor:
            with nullcontext() if differentiable else torch.no_grad():
                return network.tapped_shape(network(torch.as_tensor(part).to(self._device)))

        self._model.eval()
        x_preprocessed, _ = self._apply_preprocessing(x, y=None, fit=False, no_grad=not differentiable)
        parts = [x_preprocessed[i : i + batch_size] for i in range(0, len(x_preprocessed), batch_size)]
        result = torch.cat([activations(part) for part in parts])
        return result if framework else result.cpu().numpy()

    def _expected(self, gradient: Callable[[], Array]) -> Array:
        """A gradient; averaged over draws, if that was asked for and encoder or body drew something at random."""
        drawn = self.model.draws
        with one_gradient():
            total = gradient()
            if self.gradient_samples == 1 or self.model.draws == drawn:
                return total
            for _ in range(self.gradient_samples - 1):
                total = total + gradient()
        return total / self.gradient_samples

    def _summed(self, gradient: Callable[[BackwardChain], Array], chain: str | BackwardChain | None) -> Array:
        """One gradient; or, where CBA is part of a mixture and so has logits of its own, the sum of its parts'."""
        parts = self._summands(self.chain if chain is None else get_chain(chain))
        return gradient(parts[0][1]) if len(parts) == 1 else sum(weight * gradient(part) for weight, part in parts)

    @staticmethod
    def _summands(chain: BackwardChain) -> list[tuple[float, BackwardChain]]:
        """A chain, or the weighted parts of a mixture whose gradients have forward passes of their own."""
        parts = list(chain.parts())
        apart = len(parts) > 1 and any(part.stands_apart for _, part in parts)
        return parts if apart else [(1.0, chain)]

    def fit(self, x: np.ndarray, y: np.ndarray, *args: Any, training_chain: Any = None, **kwargs: Any) -> None:
        """
        Train the network, whose weights' gradient is STBP's; it is in evaluation mode afterwards.

        :param x: Inputs `(N, *input_shape)`.
        :param y: Labels, one-hot `(N, K)` or indices `(N,)`.
        :param args: ART's other arguments: `batch_size`, `nb_epochs`, `training_mode`, `drop_last`, `scheduler`,
            `verbose`.
        :param training_chain: The chain of the weights' gradient for this call, a name or an object; the network's
            own `training_chain` when not given.
        :param kwargs: As `args`, by name.
        :raises ValueError: If `x` or `y` do not fit.
        """
        x = self._checked_input(_array(x))
        y = self._checked_labels(_array(y), x, soft=False)
        with self._trained_by(training_chain):
            super().fit(x, y, *args, **kwargs)

    def fit_generator(self, generator: Any, *args: Any, training_chain: Any = None, **kwargs: Any) -> None:
        """
        Train the network on a generator's batches, as `fit` does.

        :param generator: An ART data generator.
        :param args: ART's other arguments: `nb_epochs`, `verbose`.
        :param training_chain: As for `fit`.
        :param kwargs: As `args`, by name.
        """
        with self._trained_by(training_chain):
            super().fit_generator(generator, *args, **kwargs)

    @contextmanager
    def _trained_by(self, chain: str | BackwardChain | None) -> Iterator[None]:
        before = self.model.training_chain
        if chain is not None:
            self.model.training_chain = chain
        try:
            with _graph():
                yield
        finally:
            self.model.training_chain = before
            self._model.eval()

    @contextmanager
    def following(self, chain: str | BackwardChain) -> Iterator[None]:
        """Follow a chain inside the block; the classifier's own is as it was afterwards.

        :param chain: The chain, or its name.
        """
        before = self.chain
        self.chain = chain
        try:
            yield
        finally:
            self.chain = before

    def _checked_input(self, x: Array, finite: bool = True) -> Array:
        """An array or tensor as torch takes it, of numbers of at least 32 bits: a gradient of 16 would vanish."""
        if not isinstance(x, (np.ndarray, torch.Tensor)):
            raise TypeError(f"x must be a numpy array or a torch tensor, got {type(x).__name__}.")
        if len(x.shape) == 0 or tuple(x.shape[1:]) != self.input_shape or len(x) == 0:
            raise ValueError(
                f"x must have shape (N, {', '.join(map(str, self.input_shape))}) with N >= 1, got {tuple(x.shape)}."
            )
        if isinstance(x, torch.Tensor):
            x = x if x.dtype in (torch.float32, torch.float64) else x.float()
        elif x.dtype.kind in REAL:
            x = _plain(x)
        else:
            raise TypeError(f"x must hold real numbers, got {x.dtype}.")
        if finite and not bool((torch if isinstance(x, torch.Tensor) else np).isfinite(x).all()):
            raise ValueError("x must hold finite numbers, got NaN or infinity.")
        return x

    def _checked_labels(self, y: Array, x: Array, soft: bool = True) -> Array:
        """Labels as ART takes them, of the kind of `x`: one-hot `(N, K)`, or `(N, 1)` for a network of one output."""
        if not isinstance(y, (np.ndarray, torch.Tensor)):
            raise TypeError(f"y must be a numpy array or a torch tensor, got {type(y).__name__}.")
        shape, samples = tuple(y.shape), len(x)
        if shape not in ((samples,), (samples, 1), (samples, self.nb_classes)):
            raise ValueError(
                f"y must be one-hot labels ({samples}, {self.nb_classes}) or indices ({samples},), got shape {shape}."
            )
        values = _array(y)
        if values.dtype.kind not in REAL:
            raise TypeError(f"y must hold real numbers, got {values.dtype}.")
        values = values.astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError("y must hold finite numbers, got NaN or infinity.")
        if self._one_output:
            values = self._binary(values, soft)
        elif shape != (samples, self.nb_classes):
            if (values < 0).any() or (values >= self.nb_classes).any() or (values != np.floor(values)).any():
                raise ValueError(
                    f"y must hold class indices from 0 to {self.nb_classes - 1}, "
                    f"got values from {values.min()} to {values.max()}."
                )
            values = np.eye(self.nb_classes)[values.astype(np.int64).reshape(-1)]
        labels = torch.from_numpy(values).to(self.model.dtype)  # the loss wants the logits' type
        return labels.to(x.device) if isinstance(x, torch.Tensor) else labels.numpy()

    def _binary(self, values: np.ndarray, soft: bool) -> np.ndarray:
        """Labels `(N, 1)` for the one output of two classes."""
        if self._int_labels:
            raise ValueError(
                f"loss {type(self._loss).__name__} is constant for a network of one output: use BCEWithLogitsLoss."
            )
        values = values[:, 1:] if values.ndim == 2 and values.shape[1] == 2 else values.reshape(-1, 1)
        if (values < 0).any() or (values > 1).any() or not (soft or np.isin(values, (0, 1)).all()):
            raise ValueError(f"y must hold {'numbers from 0 to 1' if soft else 'labels 0 or 1'}, got {values.ravel()}.")
        return values

    def _check_class(self, label: Any, samples: int) -> None:
        classes = np.asarray(0 if label is None else label)
        last = 0 if self._one_output else self.nb_classes - 1
        whole = classes.dtype.kind in "iu" and classes.shape in ((), (samples,))
        if not whole or (classes < 0).any() or (classes > last).any():
            raise ValueError(
                f"label must be None, a class from 0 to {last}, or {samples} of them, one a sample, got {label!r}."
            )

    def clone_for_refitting(self) -> PyTorchSNNClassifier:
        """
        A classifier of the same architecture, chain and settings, with fresh weights.

        :return: The clone.
        :raises ValueError: If there is no optimizer to copy.
        """
        if self.optimizer is None:
            raise ValueError("optimizer is None: an optimizer is needed to train a clone.")
        network = copy.deepcopy(self.model)
        optimizer = type(self.optimizer)(network.parameters(), **self.optimizer.defaults)
        clone = type(self)(
            network,
            self.loss,
            self.input_shape,
            self.nb_classes,
            optimizer=optimizer,
            preprocessing_defences=self.preprocessing_defences,
            preprocessing=self.preprocessing,
            device_type="cpu" if self.device.type == "cpu" else "gpu",
        )
        clone.reset()
        params = self.get_params()
        del params["model"], params["optimizer"]
        clone.set_params(**params)
        return clone

    def __getstate__(self) -> dict[str, Any]:
        # ART writes the weights to a file in its data folder, at every copy; the network itself pickles as it is.
        state = self.__dict__.copy()
        state["inner_model"] = state.pop("_model")._model
        del state["_model_wrapper"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        network = state.pop("inner_model")
        self.__dict__.update(state)
        self._device: torch.device
        if self._device.type == "cuda" and not torch.cuda.is_available():
            self._device = torch.device("cpu")
        self._model = self._make_model_wrapper(network)
        self._model.to(self._device)


class Softmax(Postprocessor):
    """Probabilities as predictions, for the attacks that insist on them; gradients stay those of the logits.

    Give it to a classifier as `postprocessing_defences=Softmax()`.

    :param apply_fit: Whether it applies in training.
    :param apply_predict: Whether it applies to predictions.
    """

    def __init__(self, apply_fit: bool = False, apply_predict: bool = True) -> None:
        super().__init__(is_fitted=True, apply_fit=apply_fit, apply_predict=apply_predict)

    def __call__(self, preds: np.ndarray) -> np.ndarray:
        """
        :param preds: Logits `(N, K)`.
        :return: Probabilities `(N, K)`.
        """
        return torch.softmax(torch.from_numpy(preds), 1).numpy()


def _layers(name: str, module: nn.Module, neurons: set[nn.Module]) -> Iterator[str]:
    """Names of the innermost modules, in the order of their definition; a spiking layer is one."""
    children = [] if module in neurons else list(module.named_children())
    if not children:
        yield name
    for child_name, child in children:
        yield from _layers(f"{name}.{child_name}", child, neurons)


@contextmanager
def _graph() -> Iterator[None]:
    """Autograd is on inside the block, also where the caller is in `no_grad` or `inference_mode`."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def _array(values: Array) -> Array:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values


def _plain(x: np.ndarray) -> np.ndarray:
    """The array, or a copy that torch takes: of its types, this machine's byte order, read forwards along all axes."""
    kind = np.float64 if x.dtype.kind == "f" and x.dtype.itemsize > 4 else np.float32
    if x.dtype == kind and all(stride >= 0 for stride in x.strides):
        return x
    return np.array(x, dtype=kind, order="C")
