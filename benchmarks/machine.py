"""What a measurement on a GPU depends on: the device and its state, versions, the commit."""

import platform
import shutil
import subprocess
from datetime import date
from importlib.metadata import PackageNotFoundError, version

import torch

from models.command import commit

__all__ = ["describe_gpu", "describe_run"]

POWER_STATE = ("pstate", "power.limit", "power.draw", "clocks.sm", "clocks.max.sm", "clocks.mem", "temperature.gpu")


def _asked(*fields: str) -> dict[str, str]:
    """Return what the driver's own tool says of the GPU in use; nothing where it is not installed."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    asked = [tool, f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    asked.append(f"--id=GPU-{torch.cuda.get_device_properties().uuid}")
    told = subprocess.run(asked, capture_output=True, text=True, check=False)
    values = [value.strip() for value in told.stdout.partition("\n")[0].split(",")]
    return dict(zip(fields, values, strict=True)) if len(values) == len(fields) else {}


def describe_gpu() -> dict[str, str | int | dict[str, str]]:
    """Return the GPU in use and the state of its clocks and power at this moment."""
    if not torch.cuda.is_available():
        return {"device": "cpu"}
    properties = torch.cuda.get_device_properties()
    return {
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_mib": properties.total_memory // 2**20,
        "l2_mib": properties.L2_cache_size // 2**20,
        "driver": _asked("driver_version").get("driver_version", "unknown"),
        "power_state": _asked(*POWER_STATE),
    }


def describe_run() -> dict[str, str]:
    """Return versions, commit and date."""
    try:
        triton = version("triton")
    except PackageNotFoundError:
        triton = "none"
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "none",
        "triton": triton,
        "python": platform.python_version(),
        "commit": commit(),
        "date": date.today().isoformat(),
    }
