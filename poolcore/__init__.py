"""Pooling layers for PyTorch: SoftPool, LIP, LiftPool, and what each pixel counts in them."""

from poolcore.lift import Bands, LiftDownPool2d, LiftUpPool2d, lift_down_pool2d, lift_up_pool2d
from poolcore.lip import LIP2d, LogitHead, LogitTrunk, lip2d
from poolcore.share import share
from poolcore.soft import SoftPool2d, soft_pool2d
from poolcore.strided import StridedPool2d, strided_pool2d
from poolcore.trace import Seen, Stopwatch, stopwatch, trace

__all__ = [
    "Bands",
    "LIP2d",
    "LiftDownPool2d",
    "LiftUpPool2d",
    "LogitHead",
    "LogitTrunk",
    "Seen",
    "SoftPool2d",
    "Stopwatch",
    "StridedPool2d",
    "lift_down_pool2d",
    "lift_up_pool2d",
    "lip2d",
    "share",
    "soft_pool2d",
    "stopwatch",
    "strided_pool2d",
    "trace",
]
