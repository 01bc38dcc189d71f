"""Small untrained networks with cards that somebody made up, for tests that need no trained weights."""

from collections.abc import Sequence
from threading import Lock

import gradio as gr
import torch
from PIL import Image

from models.data import ClassLabel
from models.resnet import VARIANTS, Variant, count_macs, count_parameters, resnet
from models.zoo import Card, Loaded
from ui.context import Context, NetworkSet
from ui.photo import Photo, PhotoInput
from ui.visit import Visits

CLASSES = (
    ClassLabel("n1", "tabby, tabby cat"),
    ClassLabel("n2", "golden retriever"),
    ClassLabel("n3", "<b>fish & chips</b>"),
    ClassLabel("n4", "Alp"),
)
INPUT_SIZE = 32
TOP1 = dict(zip(VARIANTS, (80.0, 81.2, 82.4, 83.6, 84.8, 86.0), strict=True))


def load(variant: Variant, seed: int = 0) -> Loaded:
    """Return a network of width 8 whose LiftPool filters are not those it begins with."""
    torch.manual_seed(seed)
    network = resnet(18, variant, width=8, stem="small", num_classes=len(CLASSES)).eval()
    for name, parameter in network.named_parameters():
        if name.endswith((".scale", ".shift")):
            torch.nn.init.normal_(parameter, std=0.5)
    card = Card(
        name=f"made-up-{variant}",
        variant=variant,
        depth=18,
        width=8,
        stem="small",
        input_size=INPUT_SIZE,
        preprocessing="the middle of a photo",
        classes=CLASSES,
        data={
            "name": "Made up",
            "description": "pictures of nothing",
            "url": "",
            "terms": "none",
            "train_images": 4321,
            "val_images": 600,
        },
        recipe={"schedule": [[24, 3], [32, 5]], "learning_rate": 0.05, "bf16": True, "seed": 0},
        seed=0,
        epochs=8,
        parameters=count_parameters(network),
        macs=count_macs(network, INPUT_SIZE),
        licence="MIT",
        date="2026-01-02",
        sha256="0123456789abcdef" * 4,
        storage="int8 convolutions",
        temperature=1.25,
        threshold=0.43,
        accuracy={"split": "val", "images": 600, "top1": TOP1[variant], "top5": 97.5, "calibration_error": 1.7},
        rejection={
            "size": 64,
            "known_kept": 82.4,
            "known_images": 300,
            "unknown_rejected": 79.6,
            "unknown_images": 4000,
            "unknown_classes": 80,
            "auroc": 0.88,
        },
    )
    return Loaded(network.to(memory_format=torch.channels_last), card)


def photo(seed: int = 0, width: int = 45, height: int = 36) -> Photo:
    """Return a photo of noise over a ramp."""
    noise = torch.rand(height, width, 3, generator=torch.Generator().manual_seed(seed))
    ramp = torch.linspace(0, 1, width)[None, :, None]
    return Photo(Image.fromarray((255 * (noise + ramp) / 2).round().to(torch.uint8).numpy()))


SET = "made-up"


def network_set(*variants: Variant, name: str = SET, seed: int = 0) -> NetworkSet:
    """Return a set of such networks."""
    return NetworkSet(name, tuple(load(variant, seed) for variant in variants))


def context(*variants: Variant, others: Sequence[NetworkSet] = ()) -> Context:
    """Return what the page would give to a tab with these networks, and with other sets besides."""
    sets = (network_set(*variants), *others)
    return Context(sets, gr.Radio([one.name for one in sets]), PhotoInput(), photo(), Visits(), Lock())
