"""The command that says what each network sees in a photo."""

from pathlib import Path

import pytest

from models.answer import Answer, Guess
from models.export import export
from models.predict import main, table
from models.resnet import VARIANTS
from models.zoo import update_card

from .conftest import ABOUT, ACCURACY, REJECTION, write_run

PHOTO = Path(__file__).resolve().parents[2] / "assets" / "examples" / "tabby.jpg"


def test_every_network_says_what_its_logits_say(weights, command):
    ended = command(main, PHOTO, "--folder", weights)
    assert ended.status == 0, ended.err
    title, *lines = ended.out.splitlines()
    assert title == "3 things (Tiny ImageNet):"
    assert [line.split()[0] for line in lines] == list(VARIANTS)
    assert all(line.split()[2] == "ms" for line in lines)
    assert sorted(word for word in lines[0].split() if word in ("red", "green", "blue")) == ["blue", "green", "red"]
    one = command(main, PHOTO, "resnet18-w4-tinyimagenet3-lip", "--folder", weights)
    row = one.out.splitlines()[1].split()
    assert row[0] == "lip"
    assert row[3:] == next(line for line in lines if line.startswith("lip")).split()[3:]


def test_each_set_of_networks_is_told_apart(weights, tmp_path, command):
    """Two sets know different things; seeds of one set stand together."""
    export(write_run(tmp_path / "other", "max", classes=2), ABOUT, folder=weights)
    name = "resnet18-w4-tinyimagenet2-max"
    update_card(name, weights, temperature=2.0, threshold=0.4, rejection=REJECTION, accuracy=ACCURACY)
    ended = command(main, PHOTO, name, "resnet18-w4-tinyimagenet3-lip", "--folder", weights)
    assert [line.split()[:2] for line in ended.out.splitlines()[::2]] == [["2", "things"], ["3", "things"]]
    assert [line.split()[0] for line in ended.out.splitlines()[1::2]] == ["max", "lip"]


def test_the_columns_stand_below_one_another():
    def said(label, probability, known):
        return Answer((Guess("n0", label, label, probability), Guess("n1", "cat", "cat", 0.2)), known)

    text = table([("soft", 9.04, said("tabby", 0.756, True)), ("lip", 12.0, said("golden retriever", 0.09, False))])
    assert text.splitlines() == [
        "soft   9.0 ms  tabby 76 %            cat 20 %",
        "lip   12.0 ms  golden retriever 9 %  cat 20 %  probably none of the things I know",
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"no picture", "is not a picture that can be read"), (None, "No such file or directory")],
)
def test_a_bad_file_is_told_in_a_sentence(content, sentence, weights, tmp_path, command):
    if content is not None:
        (tmp_path / "photo.jpg").write_bytes(content)
    ended = command(main, tmp_path / "photo.jpg", "--folder", weights)
    assert ended.status == 2
    assert ended.err.strip().startswith(str(tmp_path / "photo.jpg"))
    assert sentence in ended.err
    assert len(ended.err.strip().splitlines()) == 1
