"""Images as one uint8 tensor [N, C, H, W]; augmented in batches on the device they live on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from noderun.data.dataset import Batch, Dataset


@dataclass(frozen=True)
class Pixels:
    """``prepare`` of an image set: uint8 to float32 in [0, 1], as Chen et al. without any normalisation.

    ``padding`` > 0 crops at random after zero padding, ``flip`` mirrors half of the images; both in training only.
    """

    white: int = 255
    padding: int = 0
    flip: bool = False

    def __call__(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        images, *others = batch
        if generator is not None and self.padding:
            images = random_crop(images, self.padding, generator)
        if generator is not None and self.flip:
            images = random_flip(images, generator)
        return images.float() / self.white, *others


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


def labelled_images(name: str, train: Batch, test: Batch, prepare: Pixels, classes: int = 10) -> Dataset:
    """(uint8 [N, C, H, W], int64 [N]) for both splits as a Dataset."""
    return Dataset(name, "image", tuple(train[0].shape[1:]), classes, train, test, prepare)
