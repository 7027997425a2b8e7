"""Network architectures."""

from art_snn.models.small import small_cnn

__all__ = ["small_cnn"]
