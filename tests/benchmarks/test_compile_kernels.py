"""Kernels compile for GPUs that are not here, without spilling registers; the check would tell if they did."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


def compiled(tmp_path: Path, *options: str) -> list[dict]:
    """Compile in a process of its own, for here Triton may be set to interpret."""
    file = tmp_path / "kernels.json"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "benchmarks.compile_kernels", *options, "--output", str(file)]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = json.loads(file.read_text())
    return [dict(zip(report["fields"], row, strict=True)) for row in report["kernels"]]


def test_a_handful_compiles_without_spills_and_with_wide_loads(tmp_path):
    chosen = ("soft 2d 2/2/0 bf16", "soft 2d 3/2/1 bf16 nhwc", "lift 2d k5 mean bf16 nhwc")
    only = [option for choice in chosen for option in ("--only", choice)]
    kernels = compiled(tmp_path, *only, "--capability", "90")
    cases = {kernel["case"] for kernel in kernels}
    assert len(cases) == 4 + 3 + 2
    assert {kernel["kernel"] for kernel in kernels} == {
        "weighted_forward_kernel",
        "weighted_backward_kernel",
        "lift_kernel",
        "lift_image_kernel",
        "lift_backward_kernel",
    }
    assert all(kernel["local"] == 0 and 0 < kernel["registers"] <= 255 for kernel in kernels)
    by_case = {kernel["case"]: kernel["load_bits"] for kernel in kernels}
    # Eight neighbouring channels in one load.
    assert by_case["soft-2d-2/2/0-bf16-nhwc-forward"] == "4x128"


@pytest.mark.long
@pytest.mark.timeout(0)
def test_every_configuration_compiles_for_every_capability(tmp_path):
    kernels = compiled(tmp_path)
    assert {kernel["capability"] for kernel in kernels} == {75, 80, 86, 90, 100}
    assert {kernel["kernel"] for kernel in kernels} >= {
        "weighted_forward_kernel",
        "weighted_backward_kernel",
        "lift_kernel",
        "lift_image_kernel",
        "lift_backward_kernel",
    }


def test_spills_and_too_much_shared_memory_are_faults():
    from benchmarks.compile_kernels import Compiled

    right = Compiled("kernel", "case", 86, None, 4, 255, 99 * 1024, 0, "1x128", 1.0, "key")
    assert right.fault is None
    assert "local memory" in str(right._replace(local=8).fault)
    assert "shared memory" in str(right._replace(shared=99 * 1024 + 1).fault)
    assert right._replace(shared=99 * 1024 + 1, capability=80).fault is None


def test_the_width_of_loads_is_read_from_the_code():
    from benchmarks.compile_kernels import _load_bits

    code = """
        @%p1 ld.global.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd1 + 0 ];
        ld.global.L1::evict_last.v2.b32 { %r1, %r2 }, [ %rd1 ];
        ld.global.b16 { %rs1 }, [ %rd2 + 0 ];
        ld.global.b16 { %rs2 }, [ %rd3 + 0 ];
        ld.param.b64 %rd1, [kernel_param_0];
    """
    assert _load_bits(code) == "1x128 1x64 2x16"
