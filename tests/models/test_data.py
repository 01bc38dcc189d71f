"""Images and labels as they come from arrays, folders and files, and what training draws from them."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from models.augment import Augmentation
from models.data import (
    ClassLabel,
    augmented_batches,
    describe_preprocessing,
    normalise,
    open_images,
    read_class_list,
    read_image,
    shuffled,
    square,
    square_batches,
)

from .conftest import WNIDS
from .made_up import AsPhotos


def _items(images):
    return [(image.numpy().copy(), label) for image, label in (images[index] for index in range(len(images)))]


def test_arrays_and_folders_give_the_same_images(arrays, tmp_path):
    pixels, labels = np.load(arrays / "val_images.npy"), np.load(arrays / "val_labels.npy")
    folder = tmp_path / "folder"
    for index, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        path = folder / "val" / WNIDS[label] / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    (folder / "classes.tsv").write_text((arrays / "classes.tsv").read_text())
    for chosen in (None, [WNIDS[3], WNIDS[1]]):
        from_arrays, from_folder = (open_images(place, "val", chosen) for place in (arrays, folder))
        assert from_arrays.classes == from_folder.classes
        for (a, label_a), (b, label_b) in zip(_items(from_arrays), _items(from_folder), strict=True):
            assert label_a == label_b
            assert np.array_equal(a, b)


def test_chosen_classes_are_labelled_in_the_order_they_are_named(arrays):
    images = open_images(arrays, "train", [WNIDS[2], WNIDS[0]])
    assert images.classes == (ClassLabel(WNIDS[2], "blue"), ClassLabel(WNIDS[0], "red, red thing"))
    assert len(images) == 32
    for image, label in (images[index] for index in range(len(images))):
        assert image.float().mean((1, 2)).argmax() == (2 if label == 0 else 0)  # blue is 0, red is 1


def test_a_label_is_the_rank_of_its_wnid_even_if_the_list_is_in_another_order(arrays):
    lines = (arrays / "classes.tsv").read_text().splitlines(keepends=True)
    (arrays / "classes.tsv").write_text("".join(reversed(lines)))
    assert [label.wnid for label in open_images(arrays, "val").classes] == WNIDS[:4]


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        (["n99999999"], r"classes must be among the 4 of the data, got \['n99999999'\]"),
        ([WNIDS[0], WNIDS[0]], "classes must be named once each, got 2 names of 1 classes"),
    ],
)
def test_wrong_classes_are_told(arrays, classes, sentence):
    with pytest.raises(ValueError, match=sentence):
        open_images(arrays, "val", classes)


def test_a_folder_without_the_split_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must hold val_images.npy or a folder val/, it holds neither"):
        open_images(tmp_path, "val")


def test_arrays_of_another_form_are_told(arrays):
    np.save(arrays / "val_images.npy", np.zeros((32, 3, 16, 16), np.float32))
    with pytest.raises(ValueError, match=r"must hold uint8 of shape \(N, S, S, 3\), it holds float32"):
        open_images(arrays, "val")


def test_a_class_list_is_a_line_of_names_or_a_file(tmp_path):
    many = [f"n{index:08d}" for index in range(40)]  # longer than any file's name may be
    assert read_class_list(",".join(many)) == many
    (tmp_path / "list.txt").write_text("n00000003\ttabby, tabby cat\n\nn00000001\tlion\n")
    assert read_class_list(str(tmp_path / "list.txt")) == ["n00000003", "n00000001"]
    with pytest.raises(ValueError, match="classes must be WNIDs with commas between or a file"):
        read_class_list("absent.txt")


def test_square_takes_the_middle_eight_ninths_of_the_short_side():
    image = torch.arange(18 * 60).reshape(1, 18, 60).remainder(251).to(torch.uint8).repeat(3, 1, 1)
    middle = image[:, 1:17, 22:38]
    assert torch.equal(square(image, 16), middle)
    assert torch.equal(square(image.mT.contiguous(), 16), middle.mT)
    as_read = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)  # the layout that files and arrays come in
    assert torch.equal(square(as_read, 16), middle)
    large = torch.full((3, 180, 540), 10, dtype=torch.uint8)
    large[:, 10:170, 190:350] = 200
    assert (
        square(large, 16)[:, 1:-1, 1:-1].min() == 200
    )  # nothing of the rim, but where the filter reaches over the edge
    large[:, 30:150, 210:330] = 10
    assert square(large, 16)[:, 0, :].float().mean() > 150  # and no less than that


def test_normalise_takes_out_imagenets_mean_and_deviation():
    x = normalise(torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1))
    expected = [(0 - 0.485) / 0.229, (1 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    assert x.flatten().tolist() == pytest.approx(expected, rel=1e-6)


def test_a_picture_is_read_upright_and_in_rgb(tmp_path):
    picture = Image.new("RGB", (4, 2), "white")
    picture.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    picture.save(tmp_path / "turned.png", exif=exif)
    read = read_image(tmp_path / "turned.png")
    assert read.size == (2, 4)
    assert read.getpixel((1, 0)) == (255, 0, 0)
    picture.convert("P").save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png").mode == "RGB"


def test_files_that_are_no_pictures_are_told(tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(ValueError, match=r"text.jpg is not a picture that can be read"):
        read_image(tmp_path / "text.jpg")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"cut.jpg is a damaged picture"):
        read_image(tmp_path / "cut.jpg")
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "absent.jpg")


CPU = torch.device("cpu")


def test_arrays_and_photos_are_augmented_alike(arrays):
    images = open_images(arrays, "train")
    indices = torch.tensor([[5, 60, 5], [7, 0, 33]])
    drawn = Augmentation(seed=5, epoch=2, least_area=0.35)
    made = [list(augmented_batches(some, indices, 12, drawn, CPU)) for some in (images, AsPhotos(images))]
    for chosen, (batch, labels), (photos, photo_labels) in zip(indices, *made, strict=True):
        assert labels.tolist() == photo_labels.tolist() == [images[index][1] for index in chosen.tolist()]
        assert batch.shape == photos.shape == (3, 3, 12, 12)
        assert (batch - photos).abs().max() <= 1.01  # photos are rounded
        assert batch.std() > 10
    assert torch.equal(made[0][0][0][0], made[0][0][0][2])


def test_augmentation_does_not_depend_on_torchs_generator_or_what_came_before(arrays):
    images = open_images(arrays, "train")
    drawn = Augmentation(seed=5, epoch=2, least_area=0.35)
    whole = torch.arange(8).view(2, 4)
    for some in (images, AsPhotos(images)):
        torch.manual_seed(1)
        ahead = [batch for batch, _ in augmented_batches(some, whole, 12, drawn, CPU)]
        torch.manual_seed(2)
        ((rest, _),) = augmented_batches(some, whole[1:], 12, drawn, CPU)
        assert torch.equal(rest, ahead[1])
        for other in (Augmentation(5, 3, 0.35), Augmentation(6, 2, 0.35)):
            ((others, _),) = augmented_batches(some, whole[1:], 12, other, CPU)
            assert not any(torch.equal(a, b) for a, b in zip(others, rest, strict=True))


def test_square_batches_are_each_image_squared_in_order(arrays):
    images = open_images(arrays, "val")
    expected = [square(image, 12) for image, _ in (images[index] for index in range(len(images)))]
    for some in (images, AsPhotos(images)):
        batches, labels = zip(*square_batches(some, 12, CPU, batch_size=5), strict=True)
        assert [len(batch) for batch in batches] == [5] * 6 + [2]
        assert torch.equal(torch.cat(batches), torch.stack(expected))
        assert torch.cat(labels).tolist() == [images[index][1] for index in range(32)]


def test_an_epochs_order_is_a_permutation_of_its_own():
    whole = shuffled(50, seed=1, epoch=3)
    assert sorted(whole.tolist()) == list(range(50))
    assert torch.equal(shuffled(50, seed=1, epoch=3), whole)
    for other in (shuffled(50, seed=1, epoch=4), shuffled(50, seed=2, epoch=3)):
        assert not torch.equal(other, whole)


def test_preprocessing_is_told_as_it_is():
    """Follow the words on a picture whose rows and columns tell where they are, and meet what the networks see."""
    said = describe_preprocessing(64)
    short, side = int(re.search(r"short side has (\d+)", said)[1]), int(re.search(r"the middle (\d+) x \1", said)[1])

    def three(name):
        numbers = re.search(rf"the {name} ([\d.]+), ([\d.]+), ([\d.]+)", said).groups()
        return torch.tensor([float(number) for number in numbers]).view(3, 1, 1)

    picture = torch.randint(0, 256, (3, short, short + 31), dtype=torch.uint8)  # needs no scaling
    top, left = (short - side) // 2, round((short + 31 - side) / 2)
    expected = (picture[:, top : top + side, left : left + side] / 255 - three("mean")) / three("deviation")
    torch.testing.assert_close(normalise(square(picture, 64)), expected, rtol=1e-5, atol=1e-5)
