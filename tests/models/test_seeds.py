"""Trainings from several seeds: gathered only where nothing else differs, and worth what statistics say."""

import json
import math

import pytest

from models.seeds import deviation, gather, main, read_seed_runs, standard_error

RUN = {
    "depth": 18,
    "width": 32,
    "stem": "imagenet",
    "input_size": 64,
    "classes": [{"wnid": "n1", "words": "cat"}, {"wnid": "n2", "words": "dog"}],
    "train_images": 100,
    "val_images": 50,
    "epochs": 2,
}


@pytest.fixture
def trained(tmp_path):
    def write(variant, seed, top1, *, epochs=2, **changes):
        folder = tmp_path / f"{variant}-{seed}"
        folder.mkdir()
        recipe = {"schedule": [[64, 2]], "learning_rate": 0.1, "seed": seed}
        (folder / "run.json").write_text(json.dumps(RUN | {"variant": variant, "recipe": recipe} | changes))
        rows = [f"{epoch},64,1.5,{top1 if epoch == 2 else ''},9.9" for epoch in range(1, epochs + 1)]
        (folder / "log.csv").write_text("\n".join(["epoch,size_px,train_loss,val_top1_percent,seconds", *rows]))
        return folder

    return write


def test_top1_by_variant_in_the_order_of_the_seeds(trained):
    runs = [trained("max", 1, 81.5), trained("stock", 0, 70.25), trained("max", 0, 80), trained("stock", 1, 72)]
    found = gather(runs, "Cats")
    assert found["seeds"] == [0, 1]
    assert found["top1"] == {"stock": [70.25, 72], "max": [80, 81.5]}
    assert list(found["top1"]) == ["stock", "max"]
    assert (found["val_images"], found["classes"], found["recipe"]["learning_rate"]) == (50, 2, 0.1)
    assert "seed" not in found["recipe"]


def test_what_cannot_be_held_against_each_other_is_told(trained):
    first = trained("max", 0, 80)
    with pytest.raises(ValueError, match=r"max-1 differs in \['width'\]"):
        gather([first, trained("max", 1, 80, width=48)], "Cats")
    with pytest.raises(ValueError, match=r"differs in \['recipe'\]"):
        gather([first, trained("avg", 1, 80, recipe={"schedule": [[64, 2]], "learning_rate": 0.2, "seed": 1})], "Cats")
    with pytest.raises(ValueError, match="holds 1 of 2 epochs"):
        gather([first, trained("lip", 0, 80, epochs=1)], "Cats")
    with pytest.raises(ValueError, match=r"from the seeds \[0, 2\], max lacks \[2\]"):
        gather([first, trained("soft", 0, 80), trained("soft", 2, 80)], "Cats")
    with pytest.raises(ValueError, match=r"two or more, got \[0\]"):
        gather([first], "Cats")
    with pytest.raises(ValueError, match="max-0 is another of max from seed 0"):
        gather([first, first], "Cats")


def test_standard_error_is_that_of_a_difference_of_means():
    top1 = {"a": [80, 82, 84], "b": [70, 70, 73]}
    assert deviation(top1) == pytest.approx(math.sqrt(3.5))
    # Variances 4 and 3, their mean 3.5; each mean of three has a variance of 3.5 / 3, their difference twice that.
    assert standard_error(top1) == pytest.approx(math.sqrt(2 * 3.5 / 3))


def test_command_writes_what_can_be_read_again(trained, tmp_path, command):
    about, out = tmp_path / "about.json", tmp_path / "seeds" / "cats.json"
    out.parent.mkdir()
    about.write_text('{"name": "Cats"}')
    assert read_seed_runs(out.parent) == []
    runs = [str(trained("max", 1, 81)), str(trained("max", 0, 80))]
    written = command(main, *runs, "--about", str(about), "--out", str(out))
    assert written.status == 0
    assert "standard error of 0.71" in written.out  # sqrt(2 * 0.5 / 2)
    (found,) = read_seed_runs(out.parent)
    assert (found["data"], found["top1"], found["epochs"]) == ("Cats", {"max": [80, 81]}, 2)
    refused = command(main, runs[0], "--about", str(about), "--out", str(out))
    assert refused.status == 2
    assert "two or more" in refused.err
