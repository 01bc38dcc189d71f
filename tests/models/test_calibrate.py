"""Temperature and threshold against distributions whose truth is known, and against counts by hand."""

import json

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.v2.functional import resize

from models.calibrate import Shrunk, best_probability, choose_temperature, choose_threshold, main, measure_rejection
from models.data import normalise, open_images, square
from models.export import export
from models.zoo import load_network, read_description, update_card

from .conftest import ABOUT, ACCURACY, WNIDS, write_arrays, write_run


@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_the_temperature_of_answers_drawn_at_a_known_one_is_found(truth):
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(20_000, 5, generator=generator)
    labels = torch.multinomial(torch.softmax(logits / truth, dim=1), 1, generator=generator)[:, 0]
    found = choose_temperature(logits, labels)
    assert found == pytest.approx(truth, rel=0.03)
    loss = [F.cross_entropy(logits.double() / t, labels) for t in (found, 0.99 * found, 1.01 * found)]
    assert loss[0] == min(loss)


def test_the_threshold_keeps_as_large_a_share_as_it_rejects():
    known = torch.tensor([0.2, 0.5, 0.7, 0.8, 0.9], dtype=torch.float64)
    unknown = torch.tensor([0.1, 0.3, 0.4, 0.6, 0.95] * 3, dtype=torch.float64)
    threshold = choose_threshold(known, unknown)
    assert 0.5 < threshold <= 0.6 or 0.6 < threshold <= 0.7
    assert (known >= threshold).double().mean() == 0.6
    assert (unknown < threshold).double().mean() in (0.6, 0.8)


def test_rejection_by_hand():
    known = torch.tensor([0.4, 0.6, 0.9])
    unknown = torch.tensor([0.1, 0.6, 0.3, 0.7])
    seen = measure_rejection(known, unknown, 0.6, unknown_classes=2, size=64)
    # Pairs won by the known: 0.4 beats two, 0.6 beats two and ties with one, 0.9 beats four.
    assert seen == {
        "size": 64,
        "known_kept": 66.67,
        "known_images": 3,
        "unknown_rejected": 50.0,
        "unknown_images": 4,
        "unknown_classes": 2,
        "auroc": round((2 + 2.5 + 4) / 12, 4),
    }


def test_the_command_judges_on_the_half_that_did_not_choose(tmp_path, command):
    data = write_arrays(tmp_path / "data", classes=6, val=6, size=32)
    folder = tmp_path / "weights"
    name = export(write_run(tmp_path / "run", "soft", classes=2), ABOUT, folder=folder)
    update_card(name, folder, accuracy=ACCURACY)
    ended = command(main, "--data", data, "--folder", folder)
    assert ended.status == 0, ended.err
    card = json.loads((folder / f"{name}.json").read_text())
    assert "accuracy" not in card  # it was measured with another temperature
    description = read_description(name, folder)
    network = load_network(description, folder)

    def answers(wnids):
        images = open_images(data, "val", wnids)
        with torch.no_grad():
            x = torch.stack([square(images[index][0], 32) for index in range(len(images))])
            return network(normalise(x)), torch.tensor([images[index][1] for index in range(len(images))])

    logits, labels = answers(WNIDS[:2])  # six images of each: 0, 2, 4 of either choose
    chosen = [0, 2, 4, 6, 8, 10]
    assert card["temperature"] == choose_temperature(logits[chosen], labels[chosen])
    known = best_probability(logits, card["temperature"])
    choosing, judging = (best_probability(answers(pair)[0], card["temperature"]) for pair in (WNIDS[2::2], WNIDS[3::2]))
    assert card["threshold"] == choose_threshold(known[chosen], choosing)
    expected = measure_rejection(known[[1, 3, 5, 7, 9, 11]], judging, card["threshold"], 2, 32)
    assert card["rejection"] == expected
    assert (expected["known_images"], expected["unknown_images"]) == (6, 12)


def test_known_photos_are_shrunk_to_the_unknown_ones(tmp_path, command):
    """Otherwise the threshold would tell sharp photos from blurred ones."""
    data = write_arrays(tmp_path / "data", classes=2, val=6, size=32)
    other = write_arrays(tmp_path / "other", classes=6, val=6, size=8)
    folder = tmp_path / "weights"
    name = export(write_run(tmp_path / "run", "soft", classes=2), ABOUT, folder=folder)
    ended = command(main, "--data", data, "--unknown", other, "--folder", folder)
    assert ended.status == 0, ended.err
    rejection = json.loads((folder / f"{name}.json").read_text())["rejection"]
    assert (rejection["size"], rejection["known_images"], rejection["unknown_images"]) == (8, 6, 12)
    card = json.loads((folder / f"{name}.json").read_text())
    network = load_network(read_description(name, folder), folder)

    def best(images):
        """By hand: each picture made 8 px wide if it is not, then seen as ever."""
        pictures = [resize(image, [8], antialias=True) for image, _ in images]
        with torch.no_grad():
            logits = network(normalise(torch.stack([square(picture, 32) for picture in pictures])))
        return best_probability(logits, card["temperature"])

    known = best([open_images(data, "val")[index] for index in range(12)])
    others = {rank: open_images(other, "val", [WNIDS[rank]]) for rank in range(2, 6)}
    strange = {rank: best([images[index] for index in range(6)]) for rank, images in others.items()}
    assert card["threshold"] == choose_threshold(known[::2], torch.cat((strange[2], strange[4])))
    judged = torch.cat((strange[3], strange[5]))
    assert rejection == measure_rejection(known[1::2], judged, card["threshold"], 2, 8)
    shrunk = Shrunk(open_images(data, "val"), 8)
    image, label = shrunk[7]
    # 32 px made 8: the mean of the noise around each point is nearer to the class's colour.
    assert (image.shape, label) == ((3, 8, 8), 1)
    assert image.float().std((1, 2)).mean() < 0.5 * open_images(data, "val")[7][0].float().std((1, 2)).mean()
    kept, _ = Shrunk(open_images(other, "val"), 8)[0]
    assert torch.equal(kept, open_images(other, "val")[0][0])


def test_an_image_set_without_unknown_classes_is_told(arrays, tmp_path, command):
    folder = tmp_path / "weights"
    export(write_run(tmp_path / "run", "soft", classes=3), ABOUT, folder=folder)
    ended = command(main, "--data", arrays, "--folder", folder)
    assert ended.status == 2
    assert "must hold two classes or more that the networks do not know, got ['n00000003']" in ended.err
