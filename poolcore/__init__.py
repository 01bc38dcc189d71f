"""Pooling layers for PyTorch: SoftPool, LIP, LiftPool, and what each pixel counts in them."""

from poolcore.backend import Backend, backend, use_reference
from poolcore.lift import (
    Bands,
    Bands1d,
    LiftDownPool1d,
    LiftDownPool2d,
    LiftUpPool1d,
    LiftUpPool2d,
    lift_down_pool1d,
    lift_down_pool2d,
    lift_up_pool1d,
    lift_up_pool2d,
)
from poolcore.lip import LIP1d, LIP2d, LIP3d, LogitHead, LogitTrunk, lip1d, lip2d, lip3d
from poolcore.replace import Replacements, replace_pooling
from poolcore.share import share
from poolcore.soft import SoftPool1d, SoftPool2d, SoftPool3d, soft_pool1d, soft_pool2d, soft_pool3d
from poolcore.strided import (
    StridedPool1d,
    StridedPool2d,
    StridedPool3d,
    strided_pool1d,
    strided_pool2d,
    strided_pool3d,
)
from poolcore.trace import Seen, Stopwatch, stopwatch, trace

__all__ = [
    "Backend",
    "Bands",
    "Bands1d",
    "LIP1d",
    "LIP2d",
    "LIP3d",
    "LiftDownPool1d",
    "LiftDownPool2d",
    "LiftUpPool1d",
    "LiftUpPool2d",
    "LogitHead",
    "LogitTrunk",
    "Replacements",
    "Seen",
    "SoftPool1d",
    "SoftPool2d",
    "SoftPool3d",
    "Stopwatch",
    "StridedPool1d",
    "StridedPool2d",
    "StridedPool3d",
    "backend",
    "lift_down_pool1d",
    "lift_down_pool2d",
    "lift_up_pool1d",
    "lift_up_pool2d",
    "lip1d",
    "lip2d",
    "lip3d",
    "replace_pooling",
    "share",
    "soft_pool1d",
    "soft_pool2d",
    "soft_pool3d",
    "stopwatch",
    "strided_pool1d",
    "strided_pool2d",
    "strided_pool3d",
    "trace",
    "use_reference",
]
