"""CIFAR-10 as pixels of any size, prepared exactly as ``tinymbn run`` prepares a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinymbn.dataset import open_dataset
from tinymbn.image import load_picture

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load(path: Path, size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures (N, size, size, 3) and their labels (N,), of a data set that ``tinymbn eval`` takes as well.

    Args:
        path: a ``.npz`` with ``jpeg``, ``offsets`` and ``labels``, or a folder with a folder for each class.
        size: height and width.
    """
    dataset = open_dataset(path)
    pictures, labels = np.empty((dataset.count, size, size, 3), np.uint8), np.empty(dataset.count, np.int64)
    for k, picture in enumerate(dataset.pictures()):
        image = load_picture(picture.path, picture.data)
        pictures[k] = np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
        labels[k] = picture.dataset_class
    return pictures, labels
