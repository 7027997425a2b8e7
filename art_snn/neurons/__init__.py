"""Spiking neurons: dynamics as functions, the trace that they leave, and layers that own both and their derivative.

=============  =================================================================================
`dynamics`     Eqs. 1-4 and their derivative, pure functions
`values`       what neurons are set by: numbers, tensors over neurons or time steps, parameters
`layer`        a spiking layer, its trace, and how the engine visits it
`lif`          :class:`~art_snn.LIF` and :class:`~art_snn.IF`
`equations`    :class:`Dynamics`: neurons of one's own, by their equations
=============  =================================================================================
"""

from __future__ import annotations

from art_snn.neurons.dynamics import RESETS, derivative, simulate
from art_snn.neurons.equations import Dynamics
from art_snn.neurons.layer import (
    Between,
    NoGain,
    NotGiven,
    Recomputing,
    SpikingLayer,
    State,
    Trace,
    Visitor,
    recomputing,
    visiting,
)
from art_snn.neurons.lif import IF, LIF
from art_snn.neurons.values import Value, at, changes

__all__ = [
    "IF",
    "LIF",
    "RESETS",
    "Between",
    "Dynamics",
    "NoGain",
    "NotGiven",
    "Recomputing",
    "SpikingLayer",
    "State",
    "Trace",
    "Value",
    "Visitor",
    "at",
    "changes",
    "derivative",
    "recomputing",
    "simulate",
    "visiting",
]
