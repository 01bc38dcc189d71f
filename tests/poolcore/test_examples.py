"""Every example in a docstring of poolcore runs and prints what stands there."""

import doctest
import importlib
import pkgutil

import pytest
import torch
from torch import nn

import poolcore

MODULES = [name for _, name, is_package in pkgutil.iter_modules(poolcore.__path__, "poolcore.") if not is_package]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner()
    given = {**{public: getattr(poolcore, public) for public in poolcore.__all__}, "torch": torch, "nn": nn}
    for example in doctest.DocTestFinder().find(module, extraglobs=given):
        assert runner.run(example).failed == 0, example.name


@pytest.mark.parametrize("name", [name for name in poolcore.__all__ if name.endswith(("pool1d", "pool2d", "pool3d"))])
def test_every_function_has_an_example(name: str) -> None:
    assert ">>> " in (getattr(poolcore, name).__doc__ or "")
