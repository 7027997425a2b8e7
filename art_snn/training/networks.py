"""The table of networks that are trained: one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from art_snn import models
from art_snn.tables import Table


@dataclass(frozen=True)
class NetworkEntry:
    """One line of the table of networks.

    :param name: Its name for settings and commands.
    :param build: What builds it: one of `art_snn.models`, or a function with the same arguments.
    :param normalised: Whether it is built with mean and deviation of the samples learned.
    :param for_events: Whether it is for event data only.
    """

    name: str
    build: Callable[..., Any]
    normalised: bool = True
    for_events: bool = False

    @property
    def note(self) -> str:
        """What the list of networks says of it."""
        return "for event data" if self.for_events else ""

    def arguments(self, width: float, x: np.ndarray) -> dict[str, Any]:
        """
        :param width: Factor on the channels.
        :param x: Inputs that are learned `(N, *input_shape)`.
        :return: Those of the builder's arguments that follow from them.
        """
        if not self.normalised:
            return {"width": width}
        mean, std = models.channel_statistics(x)
        return {"width": width, "mean": mean, "std": std}


NETWORKS = Table(
    NetworkEntry("small_cnn", models.small_cnn, normalised=False),  # batch norm follows its first convolution
    NetworkEntry("vgg11", models.vgg11),
    NetworkEntry("resnet17", models.resnet17),
    NetworkEntry("vgg_dvs", models.vgg_dvs, for_events=True),
)
