"""Networks of other libraries: they run by their own forward pass, and the engine meets their neurons on the way."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from art_snn.adapters.layer import AdaptedLayer, NotAsDescribed
from art_snn.adapters.library import UNKNOWN, Description, Library, is_scripted, library_of
from art_snn.adapters.meeting import Pass
from art_snn.adapters.own import Own, checked
from art_snn.chains import BackwardChain, Native
from art_snn.encoders import DirectEncoder, Encoder
from art_snn.engine.affine import NotAffine
from art_snn.engine.isolate import buffers_kept, modes
from art_snn.engine.layout import Layout, Unfold
from art_snn.engine.problem import Seen
from art_snn.engine.visit import stays
from art_snn.network import SpikingNetwork, check_time_steps
from art_snn.neurons import LIF, Visitor

#: How a network can be run.
CALLS = ("sequence", "batch-first", "step", "whole")
#: What its outputs over time can come to.
READOUTS = ("mean", "sum", "last", "max")
#: What a module calls the number of its time steps.
STEPS_NAME = re.compile(r"(n_|nb_|num_)?(t|time_?steps?|steps?|step_?num)", re.IGNORECASE)
#: Where torch's own methods of a module are, which run when it is looked at.
BOOKKEEPING = nn.Module.__getattr__.__code__.co_filename
#: How far the logits of a pass that met the engine may be from the network's own, in units of the largest.
ROUNDING = 1e-4

Described = Mapping[type[nn.Module], Callable[[Any], "LIF | Description"]]


def adapt(
    network: nn.Module,
    time_steps: int,
    *,
    call: str | None = None,
    readout: str | Callable[[Any], Tensor] = "mean",
    neurons: Described | None = None,
    encoder: Encoder | None = None,
    chain: str | BackwardChain = "hart",
) -> AdaptedNetwork:
    """Wrap a spiking network of another library, or one with neuron classes of its own.

    Its forward pass stays the library's on the very module, whose weights are shared, not copied. The neurons of
    SpikingJelly (IFNode, LIFNode, ParametricLIFNode), snnTorch (Leaky, Lapicque) and Norse (LIFBox, LIF, IAF) are
    known; others are described.

    :param network: The network; it can still be used by itself.
    :param time_steps: Number of time steps T >= 1.
    :param call: How the network is run: `"sequence"`, once on frames `(T, B, ...)`; `"batch-first"`, once on
        `(B, T, ...)`; `"step"`, T times on a frame `(B, ...)`; `"whole"`, once on the classifier's own input, since it
        loops over time inside. It may be left out where the library says it (SpikingJelly's step mode).
    :param readout: From what the network returns, or the T returned values stacked, to logits `(B, K)`: `"mean"`,
        `"sum"`, `"last"` or `"max"` over time, or a function of it. A result `(B, K)` is taken as it is.
    :param neurons: For neuron classes that the package does not know: functions by class, from a module to the
        :class:`~art_snn.LIF` that does the same, such as `{LIFSpike: lambda m: LIF(decay=m.tau, threshold=m.thresh)}`;
        or to a :class:`~art_snn.adapters.Description`, where inputs are weighted.
    :param encoder: How an input becomes frames; direct encoding when not given.
    :param chain: The backward chain, by name or as an object.
    :return: The network, for :class:`~art_snn.PyTorchSNNClassifier`.
    :raises TypeError: If an argument is of another type.
    :raises ValueError: If an argument is out of its range, or a module cannot be adapted; the message says why.
    """
    return AdaptedNetwork(network, time_steps, call, readout, neurons, encoder, chain)


class AdaptedNetwork(SpikingNetwork):
    """A network of another library, see :func:`~art_snn.adapt`, whose arguments these are."""

    has_native = True
    steps_inside = True
    #: Its neuron modules, as spiking layers; and all modules that may keep a state, with who resets them.
    layers: list[AdaptedLayer]
    stateful: list[tuple[nn.Module, Library]]

    def __init__(
        self,
        network: nn.Module,
        time_steps: int,
        call: str | None = None,
        readout: str | Callable[[Any], Tensor] = "mean",
        neurons: Described | None = None,
        encoder: Encoder | None = None,
        chain: str | BackwardChain = "hart",
    ) -> None:
        if not isinstance(network, nn.Module):
            raise TypeError(f"network must be a torch.nn.Module, got {type(network).__name__}.")
        if isinstance(network, SpikingNetwork):
            raise TypeError("network is a SpikingNetwork already: give it to PyTorchSNNClassifier as it is.")
        check_time_steps(time_steps)
        if call is not None and call not in CALLS:
            raise ValueError(f"call must be one of {', '.join(CALLS)}, got {call!r}.")
        if not callable(readout) and readout not in READOUTS:
            raise ValueError(f"readout must be one of {', '.join(READOUTS)}, or a function, got {readout!r}.")
        own = Own(checked(neurons))
        layers, stateful = _found(network, own)
        self.__dict__["layers"], self.__dict__["stateful"] = layers, stateful
        self.call, self.readout = call or _call_of(layers), readout
        if self.call == "whole" and encoder is not None and not isinstance(encoder, DirectEncoder):
            raise ValueError("encoder must not be given with call='whole': the network takes the input as it is.")
        super().__init__(network, time_steps, encoder, chain)
        self.training_chain = Native()
        self.training = network.training  # of a network that is in evaluation mode, a gradient is an attack's
        #: Passes, by modes and shape, whose logits were the network's own.
        self._agreed: set[Any] = set()
        #: How many there were.
        self._runs: dict[Any, int] = {}
        self._layout: Layout | None = None
        self._reset()

    def _check_body(self, body: nn.Module) -> None:
        """It has neurons, see :func:`_found`."""

    @property
    def layout(self) -> Layout:  # type: ignore[override]
        """Where it keeps time, as its neurons' inputs show."""
        if self._layout is None:
            self._layout = _layout_of(self.layers)
        return self._layout

    def _logits(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            layer.describe()
        if self.training and not self._attacked and not self.training_chain.is_native:
            for layer in self.layers:
                stays(layer, self.training_chain)
        self._look(x)
        return super()._logits(x)

    def _predicted(self, frames: Tensor) -> Tensor:
        return self.native(frames)

    def native(self, frames: Tensor) -> Tensor:
        flags = [vars(layer.module) for layer in self.layers if layer.library.learns_only(layer.module)]
        before = [held["training"] for held in flags]
        try:
            for held in flags if torch.is_grad_enabled() else ():
                held["training"] = True
            with self._begun_anew():
                out = self._called(frames)
        finally:
            for held, training in zip(flags, before, strict=True):
                held["training"] = training
        return self._read(out, len(frames), frames.shape[1])

    def run(self, frames: Tensor, visitor: Visitor) -> Tensor:
        self._watch(frames)
        before = self._random()
        pass_ = Pass(self.layers, visitor, self.layout, single=False)
        with self._begun_anew(), pass_.under_way():
            out = self._called(frames, pass_)
        logits = self._read(out, len(frames), frames.shape[1])
        if isinstance(visitor, Unfold):  # which runs the neurons
            self._compare(frames, logits, before, pass_)
        return logits

    def once(self, frame: Tensor, visitor: Visitor) -> Tensor:
        if self.readout in ("last", "max"):
            raise NotAffine(f"readout {self.readout!r} is not the same at every time step")
        pass_ = Pass(self.layers, visitor, self.layout, single=True)
        with self._begun_anew(), _told(self.body, self.time_steps), pass_.under_way():
            # A network that is called for each step, or once on its input, never sees time: nothing is unfolded for it.
            out = self._called(frame.unsqueeze(0) if self.call in ("sequence", "batch-first") else [frame], pass_)
        logits = self._read(out, 1, len(frame))
        return logits * self.time_steps if self.readout == "sum" and self._reads_time(out, 1, len(frame)) else logits

    def _called(self, frames: Any, pass_: Pass | None = None) -> Any:
        """What the network returns on frames `(T, B, ...)`, or a list of them; of T calls, all of it stacked."""
        if self.call == "sequence":
            return self._output(self.body(frames))
        if self.call == "batch-first":
            return self._output(self.body(frames.transpose(0, 1)))
        if self.call == "whole":
            return self._output(self.body(frames[0]))
        outputs, state = [], None
        threads = "state" in inspect.signature(self.body.forward).parameters
        for frame in frames:
            if pass_ is not None:
                pass_.begin_step()
            if threads:
                out, state = self.body(frame, state)
            else:
                out = self._output(self.body(frame))
            outputs.append(out)
        return _stacked(outputs)

    def _output(self, out: Any) -> Any:
        for layer in self.layers[:1]:
            return layer.library.output(self.body, out)
        return out

    def _read(self, out: Any, time_steps: int, batch: int) -> Tensor:
        """Logits `(B, K)`."""
        if callable(self.readout):
            logits = self.readout(out)
        else:
            if not isinstance(out, Tensor):
                raise TypeError(
                    f"network must return one tensor, got a {type(out).__name__}: give a function as readout, such as "
                    "lambda out: out[0].mean(0)."
                )
            logits = self._over_time(out, time_steps, batch)
        if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != batch:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"readout must give logits (B, K), here ({batch}, K), got {got}.")
        return logits.to(self.dtype)

    def _over_time(self, out: Tensor, time_steps: int, batch: int) -> Tensor:
        if not self._reads_time(out, time_steps, batch):
            return out
        if out.dim() == 2:  # merged, time first
            out = out.unflatten(0, (time_steps, batch))
        time = 1 if self.call == "batch-first" and out.shape[:2] == (batch, time_steps) else 0
        if out.dim() < 3 or out.shape[time] != time_steps:
            raise ValueError(
                f"network must return (T, B, K) or (B, K), here T = {time_steps}, B = {batch}, got {tuple(out.shape)}."
            )
        if self.readout == "last":
            return out.select(time, time_steps - 1)
        return out.amax(time) if self.readout == "max" else getattr(out, str(self.readout))(time)

    def _reads_time(self, out: Any, time_steps: int, batch: int) -> bool:
        """Whether the network's output has time, and not logits already."""
        single = isinstance(out, Tensor) and out.dim() == 2 and len(out) == batch
        return not callable(self.readout) and not (single and self.call != "step")

    def _watch(self, frames: Tensor) -> None:
        """Say whether the neurons run by their own code in this pass, and are compared with their descriptions."""
        key = (modes(self), tuple(frames.shape))
        number = self._runs[key] = self._runs.get(key, 0) + 1
        changed = [layer.changed() for layer in self.layers]
        watched = number & (number - 1) == 0 or any(changed)
        for layer in self.layers:
            layer.watched = watched

    def _random(self) -> list[Tensor]:
        """Where torch's generators stand, on the CPU and on the devices of the weights."""
        devices = sorted({p.device for p in self.parameters() if p.is_cuda}, key=str)
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in devices)]

    def _draw_from(self, states: list[Tensor]) -> None:
        devices = sorted({p.device for p in self.parameters() if p.is_cuda}, key=str)
        torch.set_rng_state(states[0])
        for device, state in zip(devices, states[1:], strict=True):
            torch.cuda.set_rng_state(state, device)

    def _compare(self, frames: Tensor, logits: Tensor, random: list[Tensor], pass_: Pass) -> None:
        """Once for each kind of pass: what met the engine gives what the network gives by itself."""
        key = (modes(self), tuple(frames.shape))
        if key in self._agreed:
            return
        after = self._random()
        self._draw_from(random)
        past = {layer.module: layer for layer in self.layers if layer not in pass_.ran}
        with torch.no_grad(), buffers_kept(self), _running(past) as running:
            expected = self.native(frames.detach())
        self._draw_from(after)
        if running:
            raise ValueError(
                f"{past[running.pop()].where} runs by another way than its call, so that no chain can cross it. Only "
                "chain 'native' is left for this network."
            )
        off = (logits.detach() - expected).abs().max()
        if bool(off > ROUNDING * expected.abs().max()):
            raise NotAsDescribed(
                f"the network gives other logits where its neurons are met, by up to {float(off):.4g}: it does "
                "something with their state that is not theirs to know, or draws at random past torch's generators. "
                "Only chain 'native' is left for it."
            )
        self._agreed.add(key)

    @contextmanager
    def _begun_anew(self) -> Iterator[None]:
        self._reset()
        try:
            yield
        finally:
            self._reset()

    def _reset(self) -> None:
        for module, library in self.stateful:
            library.reset(module)

    def _look(self, x: Tensor) -> None:
        """See where neurons of which only a pass can tell keep time: at a batch size that is no number of steps."""
        unknown = [layer for layer in self.layers if layer.form is None]
        if not unknown:
            return
        if self.call == "step":
            found = dict.fromkeys(unknown, "step")
        else:
            batch = self.time_steps + 1
            rows = torch.arange(batch, device=x.device) % len(x)
            shapes = self._shapes(self.encoder(x.detach()[rows], self.time_steps), unknown)
            found = {layer: _form(layer, shapes[layer], self.time_steps, batch) for layer in unknown if layer in shapes}
            others = next(iter(found.values()), "step")
            found |= {layer: others for layer in unknown if layer not in shapes}  # they do not run
        for layer, form in found.items():
            layer.form = form
        self._layout = None

    @torch.no_grad()
    def _shapes(self, frames: Tensor, layers: list[AdaptedLayer]) -> dict[AdaptedLayer, tuple[int, ...]]:
        shapes: dict[AdaptedLayer, tuple[int, ...]] = {}

        def note(layer: AdaptedLayer) -> Callable[..., None]:
            def hook(_module: nn.Module, args: Any) -> None:
                shapes.setdefault(layer, tuple(args[0].shape))

            return hook

        training = [(module, module.training) for module in self.body.modules()]
        handles = [layer.module.register_forward_pre_hook(note(layer)) for layer in layers]
        try:
            for module, _ in training:
                module.training = False
            self.native(frames)
        finally:
            for handle in handles:
                handle.remove()
            for module, mode in training:
                module.training = mode
        return shapes

    @property
    def neuron_modules(self) -> set[nn.Module]:
        return {layer.module for layer in self.layers}

    def tapped(self, module: nn.Module) -> SpikingNetwork:
        network = object.__new__(_Tapped)
        vars(network).update(vars(self))
        vars(network).update(tap=module, seen=Seen(), readout="mean", training=False, shape=(), _agreed=set(), _runs={})
        return network

    def extra_repr(self) -> str:
        readout = self.readout if isinstance(self.readout, str) else "a function"
        return f"time_steps={self.time_steps}, call={self.call!r}, readout={readout}, chain={self.chain}"


class _Tapped(AdaptedNetwork):
    """A network with a module's output for logits, see :meth:`AdaptedNetwork.tapped`."""

    tap: nn.Module
    shape: tuple[int, ...]

    def _called(self, frames: Any, pass_: Pass | None = None) -> Any:
        outputs: list[Any] = []
        with self.tap.register_forward_hook(lambda _module, _args, output: outputs.append(output)):
            super()._called(frames, pass_)
        outputs = [self._output(out) if out is not None else out for out in outputs]
        outputs = [out[0] if isinstance(out, tuple) else out for out in outputs]
        if not outputs or not isinstance(outputs[-1], Tensor):
            raise ValueError(f"layer {type(self.tap).__name__} does not run, or its output is no tensor.")
        return outputs[-1] if len(outputs) < len(frames) or len(frames) == 1 else torch.stack(outputs[-len(frames) :])

    def _read(self, out: Any, time_steps: int, batch: int) -> Tensor:
        if out.shape[:2] == (time_steps, batch):
            out = out.mean(0)
        elif self.call == "batch-first" and out.shape[:2] == (batch, time_steps):
            out = out.mean(1)
        elif len(out) == time_steps * batch and time_steps > 1:
            out = out.unflatten(0, (time_steps, batch)).mean(0)
        self.shape = tuple(out.shape[1:])
        return (out.flatten(1) if self.shape else out.unsqueeze(1)).to(self.dtype)

    def tapped_shape(self, values: Tensor) -> Tensor:
        return values.reshape(len(values), *self.shape)


def _found(network: nn.Module, own: Own) -> tuple[list[AdaptedLayer], list[tuple[nn.Module, Library]]]:
    """The network's neurons, and all modules that may keep a state, with who knows how to reset them."""
    layers: list[AdaptedLayer] = []
    stateful: list[tuple[nn.Module, Library]] = []
    inside: set[nn.Module] = set()
    for name, module in network.named_modules():
        if is_scripted(module):
            raise ValueError(f"{name or 'network'} is a scripted module: give the module that it was made of.")
        if module in inside:
            continue
        library: Library | None = own if own.is_described(module) else library_of(module)
        if library is None:
            root = type(module).__module__.partition(".")[0]
            if root in UNKNOWN:
                raise ValueError(
                    f"{name or 'network'} is {UNKNOWN[root]}'s {type(module).__name__}, which cannot be adapted: "
                    "nothing is known of its neurons. Describe them by neurons={...}."
                )
            continue
        if library is own:
            own.keep(module)
        stateful.append((module, library))
        if library.describe(module) is not None:
            layers.append(AdaptedLayer(module, name, library))
            inside |= set(module.modules())
    missing = [kind.__name__ for kind in own.described if not any(isinstance(m, kind) for m in network.modules())]
    if missing:
        raise ValueError(f"neurons names {', '.join(missing)}, of which the network has no module.")
    if not layers:
        kinds = sorted({type(module).__name__ for module in network.modules()})
        raise ValueError(
            "network has no neurons that are known: SpikingJelly's, snnTorch's and Norse's are, others are described "
            f"by neurons={{Class: function}}. Its modules are of the classes {', '.join(kinds)}."
        )
    return layers, stateful


def _call_of(layers: list[AdaptedLayer]) -> str:
    """How a network is run, where its library says it."""
    found = {layer.form for layer in layers if layer.library.name == "SpikingJelly"}
    if len(found) != 1 or len({layer.library.name for layer in layers}) != 1:
        raise ValueError(f"call must be given, one of {', '.join(CALLS)}: this network does not say how it is run.")
    return {"step": "step", "time-first": "sequence"}[str(found.pop())]


def _layout_of(layers: list[AdaptedLayer]) -> Layout:
    """
    :raises ValueError: If some neurons run step by step and others do not.
    """
    kinds = {
        "step": Layout.STEPS,
        "time-first": Layout.TIME_FIRST,
        "batch-first": Layout.TIME_FIRST,
        "merged": Layout.MERGED,
    }
    found = {layer.form: layer for layer in layers}
    if None in found:
        raise ValueError("the network was not run yet: where its neurons have time shows at the first pass.")
    if set(found) == {"step", "time-first"} and not any(layer.library.has_synapse(layer.module) for layer in layers):
        return Layout.STEPS
    if len({kinds[str(form)] for form in found}) > 1:
        some = ", ".join(f"{layer.where}: {form}" for form, layer in found.items())
        raise ValueError(f"the network's neurons have time in different places ({some}), which cannot be adapted.")
    return kinds[str(next(iter(found)))]


def _form(layer: AdaptedLayer, shape: tuple[int, ...], time_steps: int, batch: int) -> str:
    """Where an input of this shape has time."""
    if shape[:2] == (time_steps, batch):
        return "time-first"
    if shape[:2] == (batch, time_steps) and len(shape) > 2 and layer.library.name == "the user":
        return "batch-first"
    if shape[:1] == (time_steps * batch,):
        return "merged"
    if shape[:1] == (batch,):
        return "step"
    raise ValueError(
        f"{layer.where} gets inputs of shape {shape} at T = {time_steps} and B = {batch}: where they have time cannot "
        "be told."
    )


def _stacked(outputs: list[Any]) -> Any:
    """What T calls returned, stacked part by part."""
    first = outputs[0]
    if isinstance(first, Tensor):
        return torch.stack(outputs)
    if isinstance(first, dict):
        return {name: _stacked([out[name] for out in outputs]) for name in first}
    if isinstance(first, (tuple, list)):
        return tuple(_stacked([out[place] for out in outputs]) for place in range(len(first)))
    return outputs


@contextmanager
def _running(modules: Collection[nn.Module]) -> Iterator[set[nn.Module]]:
    """Inside the block it is noted of which of some modules a method runs."""
    found: set[nn.Module] = set()

    def note(frame: Any, event: str, _argument: Any) -> None:
        me = frame.f_locals.get("self") if event == "call" else None
        if isinstance(me, nn.Module) and me in modules and frame.f_code.co_filename != BOOKKEEPING:
            found.add(me)

    before = sys.getprofile()
    if modules:
        sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(before)


@contextmanager
def _told(network: nn.Module, time_steps: int) -> Iterator[None]:
    """A network that loops over its own number of steps is told of one, where it calls them so."""
    held = [
        (module, name)
        for module in network.modules()
        for name, value in vars(module).items()
        if type(value) is int and value == time_steps and STEPS_NAME.fullmatch(name)
    ]
    for module, name in held:
        setattr(module, name, 1)
    try:
        yield
    finally:
        for module, name in held:
            setattr(module, name, time_steps)
