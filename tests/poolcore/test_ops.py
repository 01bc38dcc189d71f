"""SoftPool and LIP as operators registered with PyTorch: compile, export, vmap, meta tensors, second derivatives."""

import copy
import shutil
from collections.abc import Callable

import pytest
import torch
import torch._dynamo.testing
from torch import Tensor, nn

from poolcore import LIP2d, SoftPool2d, lip1d, lip2d, lip3d, soft_pool1d, soft_pool2d, soft_pool3d
from tests.poolcore.cases import random_map, same_bits

SOFT = {1: soft_pool1d, 2: soft_pool2d, 3: soft_pool3d}
LIP = {1: lip1d, 2: lip2d, 3: lip3d}
FORMATS = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),
    "transposed": lambda x: x.transpose(1, -1).contiguous().transpose(1, -1),
}
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="torch.compile builds C++ code for a processor"
)


def window(rank: int) -> tuple[list[int], list[int], list[int], bool]:
    return [3] * rank, [2] * rank, [1] * rank, False


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_opcheck(rank: int, layout: str) -> None:
    x, logit = (FORMATS[layout](random_map(seed, 2, 3, *(7, 6, 5)[:rank])) for seed in (1, 2))
    grad = random_map(3, *torch.ops.poolcore.soft_pool(x, *window(rank)).shape)
    for needs in (False, True):
        x, logit = x.detach().requires_grad_(needs), logit.detach().requires_grad_(needs)
        torch.library.opcheck(torch.ops.poolcore.soft_pool.default, (x, *window(rank)))
        torch.library.opcheck(torch.ops.poolcore.lip.default, (x, logit, *window(rank)))
    x, logit = x.detach(), logit.detach()
    torch.library.opcheck(torch.ops.poolcore.soft_pool_backward.default, (grad, x, *window(rank)))
    for needed in ([True, True], [True, False], [False, True]):
        torch.library.opcheck(torch.ops.poolcore.lip_backward.default, (grad, x, logit, *window(rank), needed))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_first_and_second_derivatives(rank: int) -> None:
    x, logit = (random_map(seed, 1, 1, *(4, 3, 2)[:rank]).requires_grad_() for seed in (1, 2))
    soft, lip = (lambda x: SOFT[rank](x, 3, 2, 1)), (lambda x, z: LIP[rank](x, z, 3, 2, 1))
    for function, inputs in ((soft, (x,)), (lip, (x, logit))):
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("needing", [(True, False), (False, True)])
def test_second_derivatives_by_one_input_alone(needing: tuple[bool, bool]) -> None:
    inputs = [random_map(seed, 1, 1, 4, 4).requires_grad_(needs) for seed, needs in zip((1, 2), needing, strict=True)]
    assert torch.autograd.gradgradcheck(lambda x, logit: lip2d(x, logit, 2), inputs)


def test_each_gradient_alone_equals_the_two_together() -> None:
    x, logit = (random_map(seed, 2, 3, 6, 5).requires_grad_() for seed in (1, 2))
    together = torch.autograd.grad(lip2d(x, logit, 2).square().sum(), (x, logit))
    for wanted, grad in zip((x, logit), together, strict=True):
        others = [tensor if tensor is wanted else tensor.detach() for tensor in (x, logit)]
        alone = torch.autograd.grad(lip2d(*others, 2).square().sum(), wanted)
        assert same_bits(alone[0], grad)


def test_compiles_whole_and_once_for_all_batch_sizes() -> None:
    """A second batch size makes the compiled code dynamic; no third one compiles again."""
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    network = nn.Sequential(nn.Conv2d(3, 4, 3), SoftPool2d(2), LIP2d(4, 3, 2, 1, logit="projection")).double()
    compiled = torch.compile(network, backend=counter, fullgraph=True)
    for n, most in ((2, 1), (3, 2), (5, 2), (8, 2)):
        x = random_map(n, n, 3, 13, 12)
        y = compiled(x)
        y.sum().backward()
        torch.testing.assert_close(y, network(x))
        assert counter.frame_count <= most
    torch._dynamo.reset()


@needs_compiler
def test_compiled_code_gives_the_same() -> None:
    torch._dynamo.reset()
    x, logit = (random_map(seed, 2, 3, 13, 12).requires_grad_() for seed in (1, 2))

    def pool(x: Tensor, logit: Tensor) -> Tensor:
        return soft_pool2d(lip2d(x, logit, 3, 2, 1), 2)

    results = []
    for function in (pool, torch.compile(pool, fullgraph=True)):
        y = function(x, logit)
        results.append((y, *torch.autograd.grad(y.square().sum(), (x, logit))))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want)
    torch._dynamo.reset()


def test_exports_and_runs_again() -> None:
    network = nn.Sequential(SoftPool2d(2), LIP2d(3, 2, logit="projection")).double().eval()
    batch = torch.export.Dim("batch", min=1)
    exported = torch.export.export(network, (random_map(1, 2, 3, 8, 8),), dynamic_shapes=({0: batch},))
    names = {str(node.target) for node in exported.graph.nodes}
    assert {"poolcore.soft_pool.default", "poolcore.lip.default"} <= names
    x = random_map(2, 5, 3, 8, 8)
    torch.testing.assert_close(exported.module()(x), network(x))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_meta_tensors_have_the_results_shape(rank: int) -> None:
    x = torch.empty(2, 3, *(9, 8, 7)[:rank], dtype=torch.bfloat16, device="meta")
    for function in (lambda t: SOFT[rank](t, 3, 2, 1), lambda t: LIP[rank](t, t, 3, 2, 1)):
        got, want = function(x), function(torch.zeros(x.shape, dtype=x.dtype))
        assert (got.shape, got.dtype, got.stride()) == (want.shape, want.dtype, want.stride())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_vmap_pools_each_of_a_batch_of_batches(axis: int) -> None:
    x, logit = (random_map(seed, 4, 2, 3, 6, 5) for seed in (1, 2))
    moved, moved_logit = x.movedim(0, axis), logit.movedim(0, axis)
    pooled = torch.func.vmap(lambda t: soft_pool2d(t, 2), in_dims=axis)(moved)
    assert same_bits(pooled, torch.stack([soft_pool2d(part, 2) for part in x]))
    pooled = torch.func.vmap(lambda t, z: lip2d(t, z, 2), in_dims=axis)(moved, moved_logit)
    assert same_bits(pooled, torch.stack([lip2d(part, z, 2) for part, z in zip(x, logit, strict=True)]))
    pooled = torch.func.vmap(lambda t, z: lip2d(t, z, 2), in_dims=(axis, None))(moved, logit[0])
    assert same_bits(pooled, torch.stack([lip2d(part, logit[0], 2) for part in x]))


def test_gradients_pass_through_vmap() -> None:
    x = random_map(1, 4, 2, 3, 6, 5).requires_grad_()
    weight = random_map(2, 4, 2, 3, 3, 2)
    pooled = torch.func.vmap(lambda t: soft_pool2d(t, 2))(x)
    (got,) = torch.autograd.grad((pooled * weight).sum(), x)
    wanted = torch.stack([soft_pool2d(part, 2) for part in x])
    (want,) = torch.autograd.grad((wanted * weight).sum(), x)
    torch.testing.assert_close(got, want)


def test_torch_func_grad_is_refused_by_pytorch() -> None:
    """PyTorch has no such transform for registered operators; torch.autograd.grad is the way."""
    with pytest.raises(RuntimeError, match="functorch transforms"):
        torch.func.grad(lambda t: soft_pool2d(t, 2).sum())(random_map(1, 1, 1, 4, 4))


@pytest.mark.parametrize("pool", [lambda x: soft_pool2d(x, 2), lambda x: lip2d(x, x, 2)], ids=["soft", "lip"])
@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4)])
def test_empty_batches(shape: tuple[int, ...], pool: Callable[[Tensor], Tensor]) -> None:
    x = torch.zeros(shape, requires_grad=True)
    y = pool(x)
    assert y.shape == (*shape[:2], 2, 2)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == shape


def test_autocast_changes_no_dtype() -> None:
    x = random_map(1, 1, 2, 4, 4, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert same_bits(soft_pool2d(x, 2), soft_pool2d(x, 2))
        assert soft_pool2d(x, 2).dtype == torch.float32
        assert soft_pool2d(x.bfloat16(), 2).dtype == torch.bfloat16


def test_modules_copy_and_keep_their_state() -> None:
    layer = LIP2d(3, 2, logit="projection").double()
    twin = copy.deepcopy(layer)
    x = random_map(1, 2, 3, 4, 4)
    assert same_bits(layer(x), twin(x))
    assert not SoftPool2d(2).state_dict()
    layer.load_state_dict(twin.state_dict())
    assert repr(copy.deepcopy(SoftPool2d(3, 2, 1))) == repr(SoftPool2d(3, 2, 1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_cuda_graph_replays() -> None:
    x = torch.randn(2, 8, 16, 16, device="cuda")
    soft_pool2d(x, 2)  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = soft_pool2d(x, 2)
    x.copy_(torch.randn_like(x))
    graph.replay()
    assert same_bits(y, soft_pool2d(x, 2))


@pytest.mark.parametrize("pool", [lambda x, z: soft_pool2d(x, 3, 2, 1), lambda x, z: lip2d(x, z, 3, 2, 1)])
def test_backward_keeps_the_inputs_and_nothing_else(pool: Callable[[Tensor, Tensor], Tensor]) -> None:
    x, logit = (random_map(seed, 2, 3, 8, 9).requires_grad_() for seed in (1, 2))
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        pool(x, logit)
    assert kept
    assert set(kept) <= {x.data_ptr(), logit.data_ptr()}
