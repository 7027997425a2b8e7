r"""The native gradient: that of the library which a network is written in, its autograd and its surrogates.

.. math:: \frac{∂L}{∂x} \text{ by back-propagation through the network as it stands}

It is what an attack follows that knows nothing of chains, here for comparison. Networks of other libraries have one
(:func:`art_snn.adapt`); on others it is an error.
"""

from __future__ import annotations

from dataclasses import dataclass

from art_snn.chains.base import BackwardChain


@dataclass(frozen=True)
class Native(BackwardChain):
    """The gradient of an adapted network's own autograd; it has no rule for a spiking layer of its own."""

    is_native = True
