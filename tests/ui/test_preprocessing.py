"""The page shows the networks the very pixels that evaluation shows them."""

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from models.data import open_images
from models.evaluate import compute_logits
from tests.ui import made_up
from ui.photo import LONG_SIDE, read_photo

UPSIDE_DOWN = 3  # of EXIF's orientations


class Catcher(nn.Module):
    """A network that keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.shown: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.shown += x.unbind()
        return torch.zeros(len(x), 2)


@pytest.mark.parametrize(
    ("width", "height", "name"),
    [
        (64, 64, "small.png"),
        (36, 36, "as-seen.png"),
        (300, 201, "wide.jpg"),
        (97, 333, "tall.jpg"),
        (LONG_SIDE, 500, "largest.png"),
        (120, 80, "turned.jpg"),
        (120, 80, "grey.png"),
    ],
)
def test_a_photo_is_seen_as_in_evaluation_to_the_bit(width, height, name, tmp_path):
    folder = tmp_path / "val" / "n1"
    folder.mkdir(parents=True)
    photo = made_up.photo(3, width, height).image
    exif = Image.Exif()
    if name == "turned.jpg":
        exif[0x0112] = UPSIDE_DOWN
    if name == "grey.png":
        photo = photo.convert("L")
    photo.save(folder / name, exif=exif)
    catcher, loaded = Catcher(), made_up.load("max")
    compute_logits(catcher, open_images(tmp_path, "val"), loaded.card.input_size)
    page = loaded.preprocess(read_photo(folder / name).image)
    assert torch.equal(page[0], catcher.shown[0])
