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
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

#: Whether a call is affine in what depends on the input: the operation, its arguments, its keyword arguments.
Rule = Callable[[Any, Sequence[Any], dict[str, Any]], bool]

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


def _first_only(args: Sequence[Any]) -> bool:
    """Only the first argument depends on the input (the rest are weights and constants)."""
    return not any(map(_depends, _leaves(args[1:])))


def _argument(func: Any, args: Sequence[Any], kwargs: dict[str, Any], name: str) -> Any:
    for position, argument in enumerate(func._schema.arguments):
        if argument.name == name:
            return args[position] if position < len(args) else kwargs.get(name, argument.default_value)
    return None


def _keeps_first_dim(*names: str) -> Rule:
    """The named dimension arguments do not include the first dimension, and nothing else depends on the input."""

    def rule(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
        ndim = args[0].dim()
        for name in names:
            dims = _argument(func, args, kwargs, name)
            if dims is None or dims == []:  # all dimensions
                return False
            dims = dims if isinstance(dims, (list, tuple)) else [dims]
            if any(dim % ndim == 0 for dim in dims):
                return False
        return _first_only(args)

    return rule


def _keeps_order_of_first(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    dims = _argument(func, args, kwargs, "dims")
    return dims[0] % args[0].dim() == 0


def _concatenates(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    dim = _argument(func, args, kwargs, "dim")
    ndim = args[0][0].dim() + (_name(func) == "stack")
    return dim % ndim != 0


def _pads(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Not along the first dimension, whose padding comes last: one step more before and one less after is a shift."""
    first = _argument(func, args, kwargs, "pad")[2 * (args[0].dim() - 1) :]
    return not any(first) and _first_only(args)


def _keeps_rank(name: str) -> Rule:
    """The named argument has an entry for each dimension of the input, so that no other comes first."""
    return lambda func, args, kwargs: len(_argument(func, args, kwargs, name)) == args[0].dim()


def _unsqueezes(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    return _argument(func, args, kwargs, "dim") % (args[0].dim() + 1) != 0


def _slices(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Along the first dimension only what takes all of it, which older torch calls for `x[:, 1:]`."""
    if _argument(func, args, kwargs, "dim") % args[0].dim():
        return _first_only(args)
    end = _argument(func, args, kwargs, "end")
    whole = _argument(func, args, kwargs, "start") in (None, 0) and (end is None or end >= len(args[0]))
    return whole and _argument(func, args, kwargs, "step") == 1 and _first_only(args)


def _evaluates(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    return _argument(func, args, kwargs, "training") is False and _first_only(args)


def _first_depends(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    return _first_only(args)


def _copies(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """What depends on the input is written into a buffer, which autograd marks from then on."""
    return True


def _sums(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """x + y and x - y are affine in both, whichever depends on the input; a scalar factor never does."""
    return not _depends(_argument(func, args, kwargs, "alpha"))


def _divides(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    return _argument(func, args, kwargs, "rounding_mode") is None and _first_only(args)


def _scales(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    return _depends(args[0]) != _depends(args[1])


def _affine_layer(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """b + x A, with x, and only x, depending on the input."""
    return not _depends(args[0]) and not any(map(_depends, _leaves(args[2:])))


# fmt: off
RULES: dict[str, Rule] = {
    **dict.fromkeys(
        ["convolution", "linear", "mm", "bmm", "neg", "neg_",
         "_native_batch_norm_legit_no_training",
         "avg_pool1d", "avg_pool2d", "avg_pool3d",
         "adaptive_avg_pool1d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d",
         "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d",
         "upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d",
         "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d",
         "pixel_shuffle", "pixel_unshuffle",
         "clone", "alias", "contiguous", "view", "_unsafe_view", "_reshape_alias", "reshape", "_to_copy"],
        _first_depends,
    ),
    **dict.fromkeys(BATCH_NORMS, _evaluates),
    **dict.fromkeys(["add", "add_", "sub", "sub_", "rsub"], _sums),
    **dict.fromkeys(["mul", "mul_"], _scales),
    **dict.fromkeys(["div", "div_"], _divides),
    **dict.fromkeys(
        ["mean", "sum", "squeeze", "select", "index_select", "split", "split_with_sizes", "unbind"],
        _keeps_first_dim("dim"),
    ),
    "constant_pad_nd": _pads,
    "expand": _keeps_rank("size"),
    "repeat": _keeps_rank("repeats"),
    "slice": _slices,
    "addmm": _affine_layer,
    "copy_": _copies,
    "flip": _keeps_first_dim("dims"),
    "transpose": _keeps_first_dim("dim0", "dim1"),
    "permute": _keeps_order_of_first,
    "unsqueeze": _unsqueezes,
    "cat": _concatenates,
    "stack": _concatenates,
}
# fmt: on
#: These meet a constant sample by sample, where it has an entry for each.
BY_SAMPLE = {"add", "add_", "sub", "sub_", "rsub", "mul", "mul_", "div", "div_", "copy_", "bmm"}


class AffineCheck(TorchDispatchMode):
    """Raises :class:`NotAffine` at the first operation on the input that is not known to be affine in it.

    :param batch: The batch size B that every tensor depending on the input must keep as its first dimension.
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
        if not rule(func, args, kwargs):
            raise NotAffine(f"{name} is not affine in the input here, or mixes time steps and samples")
        if name in BY_SAMPLE and any(self._may_vary(leaf, dependent[0]) for leaf in inputs):
            raise NotAffine(f"{name} uses a constant that may differ between time steps")
        result = func(*args, **kwargs)
        outputs = [result[0]] if name in BATCH_NORMS else list(_leaves((result,)))
        if any(output.dim() == 0 or len(output) != self.batch for output in outputs):
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
        return constant.dim() == dependent.dim() > 0 and len(constant) == self.batch > 1 and constant.stride(0) != 0


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
