"""Images as one uint8 tensor [N, C, H, W]; augmented in batches on the device they live on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from noderun import noise
from noderun.data.batch import Batch
from noderun.data.dataset import Dataset
from noderun.data.targets import Classes, Density, Levels, Target
from noderun.data.transforms import Logit


@dataclass(frozen=True)
class Pixels:
    """``prepare`` of an image set: uint8 to float32 in [0, 1], as Chen et al. without any normalization.

    ``padding`` > 0 crops at random after zero padding, ``flip`` mirrors half of the images; both in training only.
    """

    white: int = 255
    padding: int = 0
    flip: bool = False

    def __call__(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        return replace(batch, inputs=self.augmented(batch.inputs, generator).float() / self.white)

    def augmented(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is not None and self.padding:
            images = random_crop(images, self.padding, generator)
        if generator is not None and self.flip:
            images = random_flip(images, generator)
        return images


@dataclass(frozen=True)
class Dequantized(Pixels):
    """``prepare`` of images as points of a density: (x + u) / levels, u uniform in [0, 1) (Theis et al. 2016)."""

    def __call__(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        images = self.augmented(batch.inputs, generator)
        return replace(batch, inputs=(images + uniform(batch, generator)) / (self.white + 1))


@dataclass(frozen=True)
class Binarized(Pixels):
    """``prepare`` of images in black and white: a pixel is 1 with probability x / white, drawn anew in every epoch of
    training (Salakhutdinov and Murray 2008)."""

    def __call__(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        gray = super().__call__(batch, generator).inputs
        return replace(batch, inputs=(uniform(batch, generator) < gray).float())


def uniform(batch: Batch, generator: torch.Generator | None) -> Tensor:
    """Numbers in [0, 1] of the inputs' shape: from the generator in training, in testing by each example's index."""
    shape, device = batch.inputs.shape, batch.inputs.device
    if generator is not None:
        return torch.rand(shape, generator=generator, device=device)
    assert batch.index is not None
    return noise.uniform(0, batch.index, tuple(shape[1:])).float()


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


def as_density(read: Callable[..., Dataset], alpha: float = 1e-6) -> Callable[..., Dataset]:
    """A reader of the same images as dequantized points of a density, which a flow learns behind Logit(alpha)."""

    def target(shape: tuple[int, ...], levels: int) -> Target:
        return Density(math.prod(shape), Logit(alpha, levels))

    return for_target(read, target, Dequantized)


def as_binary(read: Callable[..., Dataset]) -> Callable[..., Dataset]:
    """A reader of the same images in black and white."""
    return for_target(read, lambda shape, _: Levels(math.prod(shape), 2), Binarized)


def for_target(
    read: Callable[..., Dataset], target: Callable[[tuple[int, ...], int], Target], prepared: type[Pixels]
) -> Callable[..., Dataset]:
    """A reader of the same images, without their classes, for another target, which is made from shape and levels."""

    def read_again(root: Path, augment: bool = False) -> Dataset:
        images = read(root, augment)
        pixels = images.prepare
        assert isinstance(pixels, Pixels)
        without_classes = images.map(lambda rows: Batch(rows.inputs))
        chosen = target(images.shape, pixels.white + 1)
        return replace(without_classes, target=chosen, prepare=prepared(**asdict(pixels)))

    return read_again
