"""Trainings from several seeds: gathered only where nothing else differs, and worth what statistics say."""

import json
import math
import statistics

import pytest

from benchmarks.seeds import gather, standard_error, summary

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
    found = gather(runs)
    assert found["seeds"] == [0, 1]
    assert found["top1"] == {"stock": [70.25, 72], "max": [80, 81.5]}
    assert list(found["top1"]) == ["stock", "max"]
    assert (found["val_images"], found["classes"], found["recipe"]["learning_rate"]) == (50, 2, 0.1)
    assert "seed" not in found["recipe"]


def test_what_cannot_be_held_against_each_other_is_told(trained):
    first = trained("max", 0, 80)
    with pytest.raises(ValueError, match=r"max-1 differs in \['width'\]"):
        gather([first, trained("max", 1, 80, width=48)])
    with pytest.raises(ValueError, match=r"differs in \['recipe'\]"):
        gather([first, trained("avg", 1, 80, recipe={"schedule": [[64, 2]], "learning_rate": 0.2, "seed": 1})])
    with pytest.raises(ValueError, match="holds 1 of 2 epochs"):
        gather([first, trained("lip", 0, 80, epochs=1)])
    with pytest.raises(ValueError, match=r"from the seeds \[0, 2\], max lacks \[2\]"):
        gather([first, trained("soft", 0, 80), trained("soft", 2, 80)])
    with pytest.raises(ValueError, match=r"two or more, got \[0\]"):
        gather([first])


def test_standard_error_is_that_of_a_difference_of_means():
    top1 = {"a": [80, 82, 84], "b": [70, 70, 73]}
    # Variances 4 and 3, their mean 3.5; each mean of three has a variance of 3.5 / 3, their difference twice that.
    assert standard_error(top1) == pytest.approx(math.sqrt(2 * 3.5 / 3))
    assert summary(top1) == {"a": (82, 2), "b": (71, pytest.approx(statistics.stdev([70, 70, 73])))}
