"""What every test of poolcore runs under."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def empty_is_nan() -> Iterator[None]:
    """Let memory that nobody wrote hold NaN, so that reading it shows; also refuse operators without a fixed order."""
    torch.set_deterministic_debug_mode("error")
    yield
    torch.set_deterministic_debug_mode("default")
