"""The 8x8 digits that come with scikit-learn (UCI, Alpaydin and Kaynak 1998, CC BY 4.0)."""

from __future__ import annotations

from pathlib import Path

import torch

from noderun.data.batch import Batch
from noderun.data.dataset import Dataset
from noderun.data.images import Pixels, labeled_images

# The first four fifths in the file's order, which goes writer by writer (its sequence of labels repeats about every
# 130): nearly all of the last 360 are by writers that training never saw.
TRAINING = 1437


def digits(root: Path, augment: bool = False) -> Dataset:
    """Needs nothing under root; values 0 to 16. Augmentation shifts by one pixel: four would leave half an image."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(bunch.target).long()
    train, test = Batch(images[:TRAINING], labels[:TRAINING]), Batch(images[TRAINING:], labels[TRAINING:])
    return labeled_images("digits", train, test, Pixels(white=16, padding=1 if augment else 0))
