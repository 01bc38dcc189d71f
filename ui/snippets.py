"""How to use each way of pooling in a network of one's own: snippets that run as they stand and print what they say."""

__all__ = ["SNIPPETS"]

SNIPPETS = {
    "stock": """\
import torch
from poolcore import StridedPool2d, share
from torch import nn

x = torch.rand(1, 64, 56, 56)
conv = nn.Conv2d(64, 128, kernel_size=3, stride=2, padding=1)  # shrinks by skipping
print(conv(x).shape)           # torch.Size([1, 128, 28, 28])
skip = StridedPool2d(2)        # the same skipping as a layer: one pixel of four is kept
print(share(skip, x).unique()) # tensor([0., 4.])
""",
    "max": """\
import torch
from poolcore import share
from torch import nn

pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
x = torch.tensor([[[[1.0, 2.0, 0.0], [3.0, 9.0, 1.0], [2.0, 0.0, 1.0]]]])
print(pool(x))                 # tensor([[[[9., 9.], [9., 9.]]]])
print(share(pool, x)[0, 0, 1]) # of the middle row: tensor([0., 4., 0.])
""",
    "avg": """\
import torch
from poolcore import share
from torch import nn

pool = nn.AvgPool2d(kernel_size=2)
x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
print(pool(x))                 # tensor([[[[2.5000]]]])
print(share(pool, x).unique()) # tensor([1.])
""",
    "soft": """\
import torch
from poolcore import SoftPool2d

pool = SoftPool2d(kernel_size=2)  # a drop-in for nn.MaxPool2d(2)
x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
print(pool(x))                 # tensor([[[[3.4927]]]])
""",
    "lip": """\
import torch
from poolcore import LIP2d

pool = LIP2d(64, kernel_size=3, stride=2, padding=1, logit="simplified")
x = torch.rand(1, 64, 56, 56)
print(pool(x).shape)           # torch.Size([1, 64, 28, 28])
print(sum(p.numel() for p in pool.parameters()))  # it learns: 36992 parameters
""",
    "lift": """\
import torch
from poolcore import LiftDownPool2d, LiftUpPool2d

x = torch.rand(1, 64, 57, 56)
pool = LiftDownPool2d(64, combine="mean")
print(pool(x).shape)           # torch.Size([1, 64, 29, 28])
back = LiftUpPool2d(pool)(pool.bands(x))
print(torch.allclose(back, x, atol=1e-6))  # undone: True
""",
}
