"""The gallery: free photos, credited and small, and what is written of them is what the networks say today."""

import io
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from models import zoo
from models.answer import Guess
from scripts.make_gallery import ASSETS, BEGIN, END, Answers, Photo, choose, credit, on_white, read_pool, write_credits
from ui.photo import read_photo

GALLERY = json.loads((ASSETS / "gallery.json").read_text(encoding="utf-8"))
PHOTOS: dict[str, dict[str, str]] = {photo["file"]: photo for photo in GALLERY["photos"]}
SETS: dict[str, list[dict[str, Any]]] = GALLERY["sets"]
CREDITS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ASSETS / "CREDITS.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| `gallery/")
]
POOL = read_pool()
FREE = re.compile(
    r"public domain|\[GPL 2\]\(GPL-2\.txt\)|\[CC0 1\.0\]\(https://creativecommons\.org/publicdomain/zero/1\.0/\)"
    r"|\[CC BY(?:-SA)? \d\.\d\]\(https://creativecommons\.org/licenses/by(?:-sa)?/\d\.\d/\)"
)


def test_folder_entries_and_credits_name_the_same_photos() -> None:
    names = sorted(path.name for path in (ASSETS / "gallery").iterdir())
    assert sorted(PHOTOS) == names
    assert [row[0] for row in CREDITS] == [f"`gallery/{file}`" for file in PHOTOS]
    assert {entry["file"] for entries in SETS.values() for entry in entries} == set(names)


@pytest.mark.parametrize("file", PHOTOS)
def test_photo_is_a_small_rgb_jpeg_without_metadata(file: str) -> None:
    path = ASSETS / "gallery" / file
    assert path.stat().st_size < 40_000
    with Image.open(path) as photo:
        photo.load()
        assert (photo.format, photo.mode) == ("JPEG", "RGB")
        assert 128 <= min(photo.size) <= 256
        assert len(photo.getexif()) == 0
        assert set(photo.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


@pytest.mark.parametrize("file", PHOTOS)
def test_entry_says_what_the_pool_says(file: str) -> None:
    entry = PHOTOS[file]
    assert set(entry) == {"file", "title", "wnid", "words", "alt"}
    (photo,) = (photo for photo in POOL.photos if photo.file == file)
    assert (entry["title"], entry["wnid"], entry["alt"]) == (photo.title, photo.wnid, photo.alt)


@pytest.mark.parametrize("row", CREDITS, ids=lambda row: row[0].strip("`"))
def test_credit_is_complete_and_the_licence_is_free(row: list[str]) -> None:
    assert len(row) == 6
    assert all(row)
    assert FREE.fullmatch(row[3])
    assert re.match(r"\S+ \S+ \(Debian\), `[^`]+`", row[4])
    assert row[5].endswith("shrunk")


def test_the_gpl_lies_beside_photos_under_it_alone() -> None:
    assert (ASSETS / "GPL-2.txt").is_file() == any("GPL" in row[3] for row in CREDITS)


def test_every_set_of_networks_has_its_photos() -> None:
    assert set(SETS) == set(zoo.list_sets())


@pytest.mark.parametrize("name", SETS)
def test_what_is_written_of_a_set_is_what_its_networks_say(name: str) -> None:
    networks = [zoo.load(weights) for weights in zoo.list_sets()[name]]
    for entry in SETS[name]:
        wnid = PHOTOS[entry["file"]]["wnid"]
        image = read_photo(ASSETS / "gallery" / entry["file"]).image   # as the page reads it
        says, right, sure = {}, [], 0
        for loaded in networks:
            with torch.inference_mode():
                logits = loaded.network(loaded.preprocess(image))[0]
            best = loaded.classes[int(logits.argmax())]
            sure += bool((logits / loaded.card.temperature).softmax(0).max() >= loaded.card.threshold)
            says[loaded.card.variant] = best.words.split(",")[0]
            right += [loaded.card.variant] if best.wnid == wnid else []
            assert PHOTOS[entry["file"]]["words"] == {label.wnid: label.words for label in loaded.classes}[wnid]
        assert entry == {"file": entry["file"], "says": says, "right": right, "sure": sure}


@pytest.mark.parametrize("name", SETS)
def test_networks_of_a_set_split_on_its_photos_known_ones_first_then_the_most_split(name: str) -> None:
    assert len(SETS[name]) <= 12
    assert max(Counter(PHOTOS[entry["file"]]["wnid"] for entry in SETS[name]).values(), default=0) <= 2
    order = []
    for entry in SETS[name]:
        counts = Counter(entry["says"].values())
        assert len(counts) >= 2
        assert entry["right"]
        shares = [count / len(entry["says"]) for count in counts.values()]
        entropy = -sum(share * math.log(share) for share in shares)
        order.append((2 * entry["sure"] < len(entry["says"]), round(-entropy, 9)))
    assert order == sorted(order)


# The pool


def test_pool_names_each_photo_once_with_a_credit_and_words() -> None:
    assert len(POOL.photos) >= 60
    assert len({photo.file for photo in POOL.photos}) == len(POOL.photos)
    for photo in POOL.photos:
        assert re.fullmatch(r"[a-z-]+\.jpg", photo.file)
        assert re.fullmatch(r"n\d{8}", photo.wnid)
        assert re.fullmatch(r"[A-Z].{20,}\.", photo.alt)
        assert FREE.fullmatch(credit(photo, POOL).split(" | ")[3])


def test_pool_has_photos_of_many_classes_that_the_networks_know() -> None:
    first = zoo.read_card(next(iter(zoo.list_sets().values()))[0])
    shown = [photo.wnid for photo in POOL.photos if photo.wnid in {label.wnid for label in first.classes}]
    assert len(shown) >= 30
    assert len(set(shown)) >= 15


# How it is made


def answers(file: str, wnid: str, *guesses: str, sure: int = 6) -> Answers:
    photo = Photo(file, "package/photo.png", wnid, "A thing", "A thing lies there.", "Somebody", "CC0 1.0")
    return Answers(photo, {f"v{index}": Guess(guess, guess, guess, 0.5) for index, guess in enumerate(guesses)}, sure)


def test_split_counts_answers_and_how_even_they_are() -> None:
    assert answers("a", "x", *"xxxxxx").split == 0
    assert answers("a", "x", *"xxxyyy").split == pytest.approx(1)
    assert answers("a", "x", *"xxyyzz").split == pytest.approx(math.log2(3))
    assert answers("a", "x", *"abcdef").split == pytest.approx(math.log2(6))
    assert 0 < answers("a", "x", *"xxxxxy").split < answers("a", "x", *"xxxxyy").split < 1


def test_choice_takes_the_most_split_with_one_right_and_two_of_a_class_at_most() -> None:
    chosen = choose([
        answers("agree", "x", *"xxxxxx"),
        answers("none-right", "x", *"abcdef"),
        answers("third", "x", *"xxxxxy"),
        answers("second", "x", *"xxxxyy"),
        answers("first", "x", *"xxxyyy"),
        answers("other", "z", *"xxxxxz"),
        answers("doubted", "y", *"xxxyyy", sure=2),
    ])
    assert [some.photo.file for some in chosen] == ["first", "second", "other", "doubted"]
    assert len(choose([answers(f"{n}", f"{n}", f"{n}", "y") for n in range(20)])) == 12


def test_thing_without_background_lies_in_the_middle_of_a_white_square() -> None:
    thing = Image.new("RGBA", (100, 40), (255, 0, 0, 255))
    thing.paste((0, 0, 255, 0), (0, 0, 50, 40))   # its left half is transparent, whatever its colour
    content = io.BytesIO()
    thing.save(content, "PNG")
    square = on_white(content.getvalue())
    assert (square.size, square.mode) == ((120, 120), "RGB")
    assert square.getpixel((35, 60)) == (255, 255, 255)
    assert square.getpixel((85, 60)) == (255, 0, 0)
    red = [(x, y) for x in range(120) for y in range(120) if square.getpixel((x, y)) == (255, 0, 0)]
    assert (min(red), max(red), len(red)) == ((60, 40), (109, 79), 50 * 40)


def test_credits_are_written_between_their_marks_alone(tmp_path: Path) -> None:
    path = tmp_path / "CREDITS.md"
    path.write_text(f"Before\n{BEGIN}old rows\n{END}After\n")
    for _ in range(2):
        write_credits(POOL.photos[:2], POOL, path)
        lines = path.read_text().splitlines()
        assert (lines[0], lines[1], lines[-2], lines[-1]) == ("Before", BEGIN.strip(), END.strip(), "After")
        assert lines[4:6] == [credit(photo, POOL) for photo in POOL.photos[:2]]
        assert len(lines) == 8
