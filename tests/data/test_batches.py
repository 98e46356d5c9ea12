"""Order and augmentation are functions of (seed, epoch, number of the batch) alone."""

from dataclasses import replace

import pytest
import torch

from noderun.data import Batch, Classes, DataError, Dataset, Density, Series, Values, batch_count, batches
from noderun.data.images import Pixels, random_crop, random_flip


@pytest.fixture
def dataset():
    images = torch.randint(256, (50, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50)
    prepare = Pixels(padding=2, flip=True)
    return Dataset("toy", (1, 8, 8), Classes(50), Batch(images, labels), Batch(images[:7], labels[:7]), prepare)


def labels_of(found):
    return torch.cat([batch.targets for batch in found]).tolist()


def test_an_epoch_holds_every_example_once_and_keeps_the_partial_batch(dataset):
    found = list(batches(dataset, "train", size=16, seed=3))
    assert [len(batch) for batch in found] == [16, 16, 16, 2]
    assert len(found) == batch_count(dataset, "train", 16)
    assert sorted(labels_of(found)) == list(range(50))


@pytest.mark.parametrize("start", [1, 3, 4])
def test_a_resumed_epoch_is_the_uninterrupted_one_bit_for_bit(dataset, start):
    whole = list(batches(dataset, "train", size=16, seed=3, epoch=2))
    rest = list(batches(dataset, "train", size=16, seed=3, epoch=2, start=start))
    assert len(rest) == len(whole) - start
    for expected, found in zip(whole[start:], rest, strict=True):
        assert expected.parts().keys() == found.parts().keys() == {"inputs", "targets", "index"}
        assert all(torch.equal(part, found.parts()[name]) for name, part in expected.parts().items())


def test_seed_and_epoch_each_change_order_and_augmentation(dataset):
    plain = replace(dataset, prepare=Pixels())
    orders = {tuple(labels_of(batches(plain, "train", 16, s, e))) for s in (0, 1) for e in (0, 1)}
    assert len(orders) == 4
    repeated = dataset.train.inputs[:1].repeat(50, 1, 1, 1)
    same_rows = replace(dataset, train=replace(dataset.train, inputs=repeated))
    first = [next(batches(same_rows, "train", 16, s, e)).inputs for s in (0, 1) for e in (0, 1)]
    assert all(not torch.equal(first[0], other) for other in first[1:])


def test_testing_keeps_the_order_and_is_never_augmented(dataset):
    (batch,) = batches(dataset, "test", size=16, seed=3, epoch=9)
    assert torch.equal(batch.targets, dataset.test.targets)
    assert torch.equal(batch.inputs, dataset.test.inputs.float() / 255)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_index_of_an_example_is_its_number_in_the_split(dataset, split):
    for batch in batches(dataset, split, size=16, seed=3):
        assert torch.equal(batch.index, batch.targets)  # the labels of this set are its numbers


def test_a_batch_cannot_be_taken_for_a_tuple(dataset):
    with pytest.raises(TypeError, match="unpack"):
        inputs, targets = next(batches(dataset, "test", 16))


def test_crops_are_windows_of_the_zero_padded_image_each_at_its_own_offset():
    image = torch.arange(1, 2 * 6 * 5 + 1, dtype=torch.uint8).reshape(2, 6, 5)
    found = random_crop(image.expand(200, -1, -1, -1), 2, torch.Generator().manual_seed(0))
    padded = torch.zeros(2, 10, 9, dtype=torch.uint8)
    padded[:, 2:8, 2:7] = image
    windows = {padded[:, i : i + 6, j : j + 5].numpy().tobytes() for i in range(5) for j in range(5)}
    assert found.dtype == torch.uint8
    assert {crop.numpy().tobytes() for crop in found} == windows  # 200 draws reach all 25


def test_flips_mirror_about_half_of_the_images():
    images = torch.randint(256, (400, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = random_flip(images, torch.Generator().manual_seed(1))
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(found, images, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(found, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 150 < sum(mirrored) < 250


def test_a_limit_is_the_same_for_all_seeds_and_keeps_sorted_classes_balanced():
    labels = torch.arange(10).repeat_interleave(100)
    points = labels[:, None].float()
    dataset = Dataset("sorted", (1,), Classes(10), Batch(points, labels), Batch(points[:1], labels[:1]))
    limited = dataset.limited(200)
    counts = torch.bincount(limited.train.targets, minlength=10)
    assert counts.sum() == 200 and counts.min() >= 10 and counts.max() <= 30
    assert torch.equal(limited.train.targets, dataset.limited(300).train.targets[:200])
    assert len(limited.test) == 1


def test_a_share_for_validation_is_taken_from_training_and_is_the_same_for_all_seeds(dataset):
    split = dataset.validated(0.2)
    assert [len(rows) for rows in split.splits.values()] == [40, 7, 10]
    assert sorted(split.train.targets.tolist() + split.validation.targets.tolist()) == list(range(50))
    assert torch.equal(dataset.validated(0.2).validation.targets, split.validation.targets)
    assert split.validated(0.5) is split and dataset.validated(0.0) is dataset
    with pytest.raises(DataError, match=r"data.validation=0.001 of 50 training examples is 0 to validate on"):
        dataset.validated(0.001)


def test_rows_of_unequal_length_are_refused():
    with pytest.raises(DataError, match="one common leading length"):
        Dataset("bad", (1,), Values(()), Batch(torch.zeros(3, 1), torch.zeros(2)), Batch(torch.zeros(1, 1)))


def test_fresh_samples_are_drawn_by_the_given_generator():
    def fresh(batch, generator):
        return replace(batch, inputs=torch.randn(len(batch), 2, generator=generator))

    endless = Dataset("endless", (2,), Density(2), Batch(torch.zeros(40)), Batch(torch.zeros(8)), fresh)
    first, again = (list(batches(endless, "train", 10, seed=1, start=2))[0].inputs for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, next(batches(endless, "train", 10, seed=1, start=3)).inputs)


def test_a_series_keeps_its_times_and_mask_by_each_example():
    times = torch.arange(20.0).repeat(5, 1) + torch.arange(5.0)[:, None]
    rows = Batch(torch.randn(5, 20, 3), torch.randn(5, 20, 2), times, times > 3)
    series = Dataset("s", (20, 3), Series(2), rows, rows)
    assert series.sample == "series"
    batch = next(batches(series, "train", 4))
    assert torch.equal(batch.times[:, 0], batch.index.float())
    assert torch.equal(batch.mask, batch.times > 3) and batch.targets.shape == (4, 20, 2)
