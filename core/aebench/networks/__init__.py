"""Building blocks that several models share: the backbones and the Gaussian bottleneck."""

from aebench.networks.bottlenecks import gaussian_bottleneck, sample_standard_normal, standard_normal
from aebench.networks.conv import CONV, ConvDecoder, ConvEncoder
from aebench.networks.dense import DENSE, DenseDecoder, DenseEncoder, dense_widths

__all__ = [
    "CONV",
    "DENSE",
    "ConvDecoder",
    "ConvEncoder",
    "DenseDecoder",
    "DenseEncoder",
    "dense_widths",
    "gaussian_bottleneck",
    "sample_standard_normal",
    "standard_normal",
]
