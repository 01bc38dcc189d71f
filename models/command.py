"""What command lines share: options that are checked, errors told in one sentence, and the commit that they ran at."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import typer

__all__ = ["commit", "open_device", "plain_errors"]


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn a wrong file or value into its sentence on standard error and exit status 2, without a trace."""
    try:
        yield
    except (OSError, ValueError) as error:
        sentence = str(error)
        if isinstance(error, OSError) and error.strerror is not None:
            sentence = f"{error.filename}: {error.strerror}"
        typer.echo(sentence, err=True)
        raise typer.Exit(2) from None


def open_device(name: str) -> torch.device:
    """Return a device by its name.

    Raises:
        ValueError: if there is none of that name here.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        raise ValueError(f'device must be one that torch finds here, such as "cpu", got {name!r}') from error
    return device


def commit() -> str:
    """Return the commit that is checked out, and whether files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + (" with changes" if git("status", "--porcelain") else "")
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown: not a git checkout"
