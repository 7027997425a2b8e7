"""Networks of other libraries, attacked as they are: their forward pass stays theirs, only the gradient is ours.

==============  ===================================================================================
`layer`         a library's neurons as a spiking layer: what describes them, and that it is compared
`library`       what is known of a library: which neurons, how they are reset, where they keep a state
`own`           neuron classes that the user describes
`spikingjelly`  one library each; none is imported before a network of it comes
`snntorch`      likewise
`norse`         likewise
`meeting`       a neuron module's call, intercepted on the instance, on its way to the engine
`network`       :class:`AdaptedNetwork`, and :func:`~art_snn.adapt`
==============  ===================================================================================
"""

from __future__ import annotations

from art_snn.adapters.library import Description
from art_snn.adapters.network import AdaptedNetwork, adapt

__all__ = ["AdaptedNetwork", "Description", "adapt"]
