"""Labelled images made of numbers, for trainings without any file, and a training that is broken off."""

from models.data import ArrayImages, ClassLabel


def made_images(images, labels, classes):
    names = tuple(ClassLabel(f"n{index:08d}", f"class {index}") for index in range(classes))
    return ArrayImages(images, labels.long(), names)


class AsPhotos:
    """Images that are asked for one by one, as photos of unequal shape are."""

    def __init__(self, images):
        self.classes, self._images = images.classes, images

    def __len__(self):
        return len(self._images)

    def __getitem__(self, index):
        return self._images[index]


def interrupted(network, steps):
    """Return a network whose training is broken off by the keyboard after so many steps."""
    left = steps

    def count(module, inputs):
        nonlocal left
        if module.training:
            if not left:
                raise KeyboardInterrupt
            left -= 1

    network.register_forward_pre_hook(count)
    return network
