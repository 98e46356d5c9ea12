"""Images as one uint8 tensor [N, C, H, W]; augmented in batches on the device they live on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from noderun.data.batch import Batch
from noderun.data.dataset import Dataset
from noderun.data.targets import Classes


@dataclass(frozen=True)
class Pixels:
    """``prepare`` of an image set: uint8 to float32 in [0, 1], as Chen et al. without any normalization.

    ``padding`` > 0 crops at random after zero padding, ``flip`` mirrors half of the images; both in training only.
    """

    white: int = 255
    padding: int = 0
    flip: bool = False

    def __call__(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        images = batch.inputs
        if generator is not None and self.padding:
            images = random_crop(images, self.padding, generator)
        if generator is not None and self.flip:
            images = random_flip(images, generator)
        return replace(batch, inputs=images.float() / self.white)


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Windows of the original size out of the zero-padded images [B, C, H, W], each at its own offset."""
    count, _, height, width = images.shape
    windows = F.pad(images, [padding] * 4).unfold(2, height, 1).unfold(3, width, 1)
    top, left = torch.randint(2 * padding + 1, (2, count), generator=generator, device=images.device)
    return windows[torch.arange(count, device=images.device), :, top, left]


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image [B, C, H, W] mirrored left to right with probability 1/2."""
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) < 0.5
    return torch.where(mirrored, images.flip(3), images)


def labeled_images(name: str, train: Batch, test: Batch, prepare: Pixels, classes: int = 10) -> Dataset:
    """A Dataset of uint8 images [N, C, H, W] with int64 labels [N] in both splits."""
    return Dataset(name, tuple(train.inputs.shape[1:]), Classes(classes), train, test, prepare)
