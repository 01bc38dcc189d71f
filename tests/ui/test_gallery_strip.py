"""The gallery's buttons: what they say of photos made up here."""

import json
import re

from PIL import Image

from ui.gallery import draw_gallery, list_gallery


def write(folder, says, right):
    (folder / "gallery").mkdir()
    Image.new("RGB", (90, 60), (200, 120, 40)).save(folder / "gallery" / "cat.jpg")
    photo = {"file": "cat.jpg", "title": "A cat", "wnid": "n1", "words": "tabby, tabby cat", "alt": "A <cat>."}
    entry = {"file": "cat.jpg", "says": says, "right": right}
    content = {"photos": [photo], "sets": {"mine": [entry]}}
    (folder / "gallery.json").write_text(json.dumps(content))
    return list_gallery(folder)


def test_a_photo_comes_with_the_truth_and_what_each_network_says(tmp_path):
    splits = write(tmp_path, {"stock": "lion", "max": "tabby", "lip": "lion", "lift": "pizza"}, ["max"])
    assert set(splits) == {"mine"}
    html = draw_gallery(splits["mine"])
    assert re.search(r'<button type="button" value="0"><img src="data:image/jpeg;[^"]+" alt="A &lt;cat&gt;."', html)
    assert "<strong>tabby</strong><span>1 of 4 right</span>" in html
    # The truth first, then by votes.
    assert "<small>tabby: Max; lion: Stock, LIP; pizza: LiftPool</small>" in html


def test_without_photos_there_is_no_gallery(tmp_path):
    assert list_gallery(tmp_path) == {}
    assert draw_gallery([]) == ""
