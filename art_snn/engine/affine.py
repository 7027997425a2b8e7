"""Is what runs between the spiking layers affine, sample by sample? Watch it and see.

A backward pass may be collapsed over time only if the Jacobian of every piece between two spiking layers is the same
at every step, that is if the piece is affine in its input, and only if no piece mixes the merged time-and-batch
dimension. :class:`AffineCheck` sees every tensor operation below autograd, also those a user's module calls as plain
functions, and stops at the first that is not known to be affine. What is unknown is refused: a refused network takes
the step-by-step route, which is slower and always right.

A tensor depends on the input exactly if it requires a gradient: the check runs with the input as the only leaf that
does. Operations that would lose that mark (`detach`, `no_grad`) are refused with the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class Call(NamedTuple):
    """A call of an operation.

    :param func: The operation.
    :param args: Its arguments.
    :param kwargs: Its keyword arguments.
    :param batch: The batch size B.
    """

    func: Any
    args: Sequence[Any]
    kwargs: dict[str, Any]
    batch: int

    def argument(self, name: str) -> Any:
        """An argument by its name; None if there is none of that name."""
        for position, argument in enumerate(self.func._schema.arguments):
            if argument.name == name:
                return (
                    self.args[position] if position < len(self.args) else self.kwargs.get(name, argument.default_value)
                )
        return None

    @property
    def time(self) -> int:
        """Number of dimensions of the first argument that stand before its samples, see :func:`_time`."""
        return _time(self.args[0], self.batch)


#: Whether a call is affine in what depends on the input, and mixes neither samples nor time steps.
Rule = Callable[[Call], bool]

#: These also return statistics, which do not depend on the input in evaluation mode.
BATCH_NORMS = ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm")


class NotAffine(Exception):
    """The body cannot be replayed in one step; the message says why."""


class CannotRun(NotAffine):
    """The body failed at batch size B, this time."""


def _leaves(values: Iterable[Any]) -> Iterator[Any]:
    """What operations take and give, out of its lists; quicker than torch's own, which knows more containers."""
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _leaves(value)
        else:
            yield value


def _depends(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _time(value: Tensor, batch: int) -> int:
    """1 for a single time step of a network that keeps time first, `(1, B, ...)`; 0 where samples come first.

    Of a single sample nobody can tell, so that such a replay has two.
    """
    return int(value.dim() > 1 and batch > 1 and len(value) == 1 and value.shape[1] == batch)


def _has_samples(value: Tensor, batch: int) -> bool:
    return value.dim() > 0 and (len(value) == batch or _time(value, batch) == 1)


def _first_depends(call: Call) -> bool:
    """Only the first argument depends on the input (the rest are weights and constants)."""
    return not any(map(_depends, _leaves(call.args[1:])))


def _samples_first(call: Call) -> bool:
    """A layer of images: what it takes for samples are samples."""
    return _first_depends(call) and call.time == 0


def _keeps_first_dims(*names: str) -> Rule:
    """The named dimension arguments include neither samples nor time, and nothing else depends on the input."""

    def rule(call: Call) -> bool:
        ndim = call.args[0].dim()
        for name in names:
            dims = call.argument(name)
            if dims is None or dims == []:  # all dimensions
                return False
            dims = dims if isinstance(dims, (list, tuple)) else [dims]
            if any(dim % ndim <= call.time for dim in dims):
                return False
        return _first_depends(call)

    return rule


def _averages(call: Call) -> bool:
    """Over time, too: numbers tell whether what comes of it is the mean over time of what comes over all steps."""
    ndim, dims = call.args[0].dim(), call.argument("dim")
    if dims is None or dims == []:
        return False
    dims = dims if isinstance(dims, (list, tuple)) else [dims]
    return all(dim % ndim != call.time for dim in dims) and _first_depends(call)


def _moves(call: Call, order: Sequence[int]) -> bool:
    """Dimensions change places, and the samples stay, or come before or behind a single time step."""
    shape, place = [call.args[0].shape[dim] for dim in order], list(order).index(call.time)
    behind = place == 1 and shape[0] == 1 and call.batch > 1
    return place == 0 or behind


def _permutes(call: Call) -> bool:
    ndim = call.args[0].dim()
    return _moves(call, [dim % ndim for dim in call.argument("dims")])


def _transposes(call: Call) -> bool:
    ndim = call.args[0].dim()
    one, other = (call.argument(name) % ndim for name in ("dim0", "dim1"))
    order = list(range(ndim))
    order[one], order[other] = other, one
    return _moves(call, order)


def _concatenates(call: Call) -> bool:
    parts, dim = call.args[0], call.argument("dim")
    stacked = _name(call.func) == "stack"
    dim %= parts[0].dim() + stacked
    time = max(_time(part, call.batch) for part in parts)
    alone = stacked and dim == 0 and len(parts) == 1 and time == 0 and call.batch > 1  # becomes a single time step
    return dim > time or alone


def _pads(call: Call) -> bool:
    """Not along samples and time, whose padding comes last: one step more before and one less after is a shift."""
    first = call.argument("pad")[2 * (call.args[0].dim() - 1 - call.time) :]
    return not any(first) and _first_depends(call)


def _keeps_rank(name: str) -> Rule:
    """The named argument has an entry for each dimension of the input, so that no other comes first."""
    return lambda call: len(call.argument(name)) == call.args[0].dim()


def _unsqueezes(call: Call) -> bool:
    dim = call.argument("dim") % (call.args[0].dim() + 1)
    return dim > call.time or (dim == 0 and call.time == 0 and call.batch > 1)  # a single time step


def _slices(call: Call) -> bool:
    """Along samples and time only what takes all of it, which older torch calls for `x[:, 1:]`."""
    dim = call.argument("dim") % call.args[0].dim()
    if dim > call.time:
        return _first_depends(call)
    end, size = call.argument("end"), call.args[0].shape[dim]
    whole = call.argument("start") in (None, 0) and (end is None or end >= size)
    return whole and call.argument("step") == 1 and _first_depends(call)


def _squeezes(call: Call) -> bool:
    dims = call.argument("dim")
    if dims is None:  # all of size 1
        return False
    dims = dims if isinstance(dims, (list, tuple)) else [dims]
    return all(dim % call.args[0].dim() != call.time for dim in dims)


def _evaluates(call: Call) -> bool:
    return call.argument("training") is False and _samples_first(call)


def _copies(call: Call) -> bool:
    """What depends on the input is written into a buffer, which autograd marks from then on."""
    return True


def _sums(call: Call) -> bool:
    """x + y and x - y are affine in both, whichever depends on the input; a scalar factor never does."""
    return not _depends(call.argument("alpha"))


def _divides(call: Call) -> bool:
    return call.argument("rounding_mode") is None and _first_depends(call)


def _scales(call: Call) -> bool:
    return _depends(call.args[0]) != _depends(call.args[1])


def _multiplies(call: Call) -> bool:
    """x A, with x alone depending on the input, over its last dimension, which is not its samples."""
    return _first_depends(call) and call.args[0].dim() > call.time + 1


def _affine_layer(call: Call) -> bool:
    """b + x A, with x, and only x, depending on the input."""
    x = call.args[1]
    return not _depends(call.args[0]) and not any(map(_depends, _leaves(call.args[2:]))) and not _time(x, call.batch)


# fmt: off
RULES: dict[str, Rule] = {
    **dict.fromkeys(
        ["convolution", "_native_batch_norm_legit_no_training",
         "avg_pool1d", "avg_pool2d", "avg_pool3d",
         "adaptive_avg_pool1d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d",
         "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d",
         "upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d",
         "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d",
         "pixel_shuffle", "pixel_unshuffle"],
        _samples_first,
    ),
    **dict.fromkeys(["linear", "mm", "bmm"], _multiplies),
    **dict.fromkeys(
        ["neg", "neg_", "clone", "alias", "contiguous", "view", "_unsafe_view", "_reshape_alias", "reshape",
         "_to_copy"],
        _first_depends,
    ),
    **dict.fromkeys(BATCH_NORMS, _evaluates),
    **dict.fromkeys(["add", "add_", "sub", "sub_", "rsub"], _sums),
    **dict.fromkeys(["mul", "mul_"], _scales),
    **dict.fromkeys(["div", "div_"], _divides),
    **dict.fromkeys(["mean", "sum"], _averages),
    **dict.fromkeys(["select", "index_select", "split", "split_with_sizes", "unbind"], _keeps_first_dims("dim")),
    "squeeze": _squeezes,
    "constant_pad_nd": _pads,
    "expand": _keeps_rank("size"),
    "repeat": _keeps_rank("repeats"),
    "slice": _slices,
    "addmm": _affine_layer,
    "copy_": _copies,
    "flip": _keeps_first_dims("dims"),
    "transpose": _transposes,
    "permute": _permutes,
    "unsqueeze": _unsqueezes,
    "cat": _concatenates,
    "stack": _concatenates,
}
# fmt: on
#: These meet a constant sample by sample, where it has an entry for each.
BY_SAMPLE = {"add", "add_", "sub", "sub_", "rsub", "mul", "mul_", "div", "div_", "copy_", "bmm"}


class AffineCheck(TorchDispatchMode):
    """Raises :class:`NotAffine` at the first operation on the input that is not known to be affine in it.

    :param batch: The batch size B that every tensor depending on the input must keep as its first dimension, or as its
        second behind a single time step.
    """

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch = batch
        self.gains: set[int] = set()  # ids of the gains: the only factors that may differ between samples

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs = [leaf for leaf in _leaves((*args, *kwargs.values())) if isinstance(leaf, Tensor)]
        dependent = [leaf for leaf in inputs if leaf.requires_grad]
        if not dependent:
            if torch.Tag.nondeterministic_seeded in func.tags:
                raise NotAffine(f"{_name(func)} draws random numbers")
            return func(*args, **kwargs)
        if not torch.is_grad_enabled():
            raise NotAffine(
                f"{_name(func)} runs without gradients (no_grad, a custom autograd function or a backward hook)"
            )
        name = _name(func)
        rule = RULES.get(name)
        if rule is None:
            raise NotAffine(f"{name} is not known to be affine")
        if not rule(Call(func, args, kwargs, self.batch)):
            raise NotAffine(f"{name} is not affine in the input here, or mixes time steps and samples")
        if name in BY_SAMPLE and any(self._may_vary(leaf, dependent[0]) for leaf in inputs):
            raise NotAffine(f"{name} uses a constant that may differ between time steps")
        result = func(*args, **kwargs)
        outputs = [result[0]] if name in BATCH_NORMS else list(_leaves((result,)))
        if not all(_has_samples(output, self.batch) for output in outputs):
            raise NotAffine(f"{name} changes the batch dimension")
        if not all(output.is_floating_point() for output in outputs):  # these no longer require a gradient
            raise NotAffine(f"{name} makes whole numbers of the input")
        return result

    def _may_vary(self, constant: Tensor, dependent: Tensor) -> bool:
        """Whether a constant has an entry for each sample, and so perhaps one for each time step."""
        if constant.requires_grad or id(constant) in self.gains:
            return False
        if constant.dim() > dependent.dim():  # its first dimension comes before the samples
            return True
        place = _time(dependent, self.batch) - (dependent.dim() - constant.dim())
        return place >= 0 and constant.shape[place] == self.batch > 1 and constant.stride(place) != 0


class ReadCheck(TorchFunctionMode):
    """Raises :class:`NotAffine` where Python reads or changes what depends on the input, past all operations."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if args and _depends(args[0]):
            attribute = getattr(func, "__name__", "") in ("__get__", "__set__", "__delete__")
            name = func.__self__.__name__ if attribute else getattr(func, "__name__", "")
            if name in READS or (attribute and (func.__name__ != "__get__" or name not in ATTRIBUTES)):
                raise NotAffine(f"{name} goes round the operations of a layer")
        return func(*args, **(kwargs or {}))


#: Methods of a tensor that run no operation, and reach its numbers or its gradient all the same.
READS = {
    *("tolist", "data_ptr", "storage", "untyped_storage", "_typed_storage", "set_", "share_memory_", "__dlpack__"),
    *("register_hook", "register_post_accumulate_grad_hook", "apply_", "map_", "map2_", "_make_subclass"),
}
#: Attributes of a tensor that say nothing of its numbers, or are operations like a method.
ATTRIBUTES = {
    *("shape", "dtype", "device", "ndim", "layout", "names", "itemsize", "nbytes", "requires_grad", "is_leaf"),
    *("is_cuda", "is_cpu", "is_sparse", "is_sparse_csr", "is_quantized", "is_meta", "is_mkldnn", "is_mps", "is_xpu"),
    *("is_nested", "T", "mT", "H", "mH", "real", "imag"),
}


@cache
def _name(func: Any) -> str:
    return func._schema.name.removeprefix("aten::")
