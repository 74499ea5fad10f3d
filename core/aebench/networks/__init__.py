"""Building blocks that several models share: dense networks and the Gaussian bottleneck."""

from aebench.networks.bottlenecks import gaussian_bottleneck, sample_standard_normal, standard_normal
from aebench.networks.dense import DENSE, DenseDecoder, DenseEncoder, dense_widths

__all__ = [
    "DENSE",
    "DenseDecoder",
    "DenseEncoder",
    "dense_widths",
    "gaussian_bottleneck",
    "sample_standard_normal",
    "standard_normal",
]
