"""Count the launches of kernels, so that a test can tell that the kernel it means has run."""

from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


class _Counted:
    def __init__(self, kernel: Any, note: Callable[[dict[str, Any]], None]) -> None:
        self.kernel, self.note = kernel, note

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., Any]:
        def launch(*args: Any, **flags: Any) -> Any:
            self.note(flags)
            return self.kernel[grid](*args, **flags)

        return launch


def count_launches(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, names: dict[str, Callable[[dict[str, Any]], str]]
) -> Counter[str]:
    """Return a counter that goes up with each launch of the module's kernels.

    Args:
        names: the kernels' names in the module, each with what a launch is counted as, by its constant flags.
    """
    counts: Counter[str] = Counter()

    def counted(name: str, label: Callable[[dict[str, Any]], str]) -> _Counted:
        return _Counted(getattr(module, name), lambda flags: counts.update([label(flags)]))

    for name, label in names.items():
        monkeypatch.setattr(module, name, counted(name, label))
    return counts
