"""The gradient engine: differentiates a spiking network along a backward chain."""
