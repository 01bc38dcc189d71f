"""The gallery's buttons: what they say of photos made up here."""

import json
import re

from PIL import Image

from models.resnet import VARIANTS
from ui.gallery import draw_gallery, list_gallery


def write(folder, says, right):
    (folder / "gallery").mkdir()
    Image.new("RGB", (90, 60), (200, 120, 40)).save(folder / "gallery" / "cat.jpg")
    photo = {"file": "cat.jpg", "title": "A cat", "wnid": "n1", "words": "tabby, tabby cat", "alt": "A <cat>."}
    entry = {"file": "cat.jpg", "says": says, "right": right}
    content = {"photos": [photo], "sets": {"mine": [entry]}}
    (folder / "gallery.json").write_text(json.dumps(content))
    return list_gallery(VARIANTS, folder)


def test_a_photo_comes_with_the_truth_and_what_each_network_says(tmp_path):
    photos = write(tmp_path, {"stock": "lion", "max": "tabby", "lip": "lion", "lift": "pizza"}, ["max"])
    html = draw_gallery(photos, "mine")
    assert re.search(r'<button type="button" value="0"><img src="data:image/jpeg;[^"]+" alt="A &lt;cat&gt;."', html)
    assert "<strong>tabby</strong><span>1 of 4 right</span>" in html
    # The truth first, then by votes.
    assert "<small>tabby: Max; lion: Stock, LIP; pizza: LiftPool</small>" in html


def test_a_set_without_photos_has_no_gallery(tmp_path):
    photos = write(tmp_path, {"max": "tabby", "lip": "lion"}, ["max"])
    assert draw_gallery(photos, "other") == ""


def test_only_networks_that_are_there_count(tmp_path):
    write(tmp_path, {"stock": "lion", "max": "tabby", "lip": "lion", "lift": "pizza"}, ["max"])
    (photo,) = list_gallery(["stock", "max", "lip"], tmp_path)
    assert (photo.right, photo.says) == (1, {"stock": "lion", "max": "tabby", "lip": "lion"})
    assert list_gallery(["stock", "lip"], tmp_path) == ()  # they agree
