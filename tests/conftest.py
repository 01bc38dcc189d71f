"""What must be decided before any test is collected."""

import os

import torch

# Without a GPU kernels run under Triton's interpreter. Triton asks for it when it is first imported, by whatever test.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
