"""The grid of a map of the plane: determinants and crossings of maps that are known."""

import torch

from noderun.data.nested_shapes import nested_shapes
from noderun.evaluation.plane import LINES, POINTS, crossings, grid_lines, with_determinant


def fold(x):
    return torch.stack([x[:, 0].square(), x[:, 1] + 0.3 * x[:, 0]], dim=1)


def test_determinants_are_those_of_the_jacobian():
    points = grid_lines(torch.tensor([[-1.0, -1.0], [1.0, 1.0]])).flatten(0, 1)[::37]
    images, dets = with_determinant(fold, points)
    torch.testing.assert_close(images, fold(points))
    torch.testing.assert_close(dets, 2 * points[:, 0])
    whole = torch.func.vmap(torch.func.jacrev(lambda x: fold(x[None])[0]))(points)
    torch.testing.assert_close(dets, torch.linalg.det(whole))


def test_lines_cross_after_a_fold_and_never_after_a_homeomorphism():
    lines = grid_lines(torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    assert lines.shape == (2 * LINES, POINTS, 2)
    turned = lines @ torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    assert sum(sum(crossings(family)) for family in turned.unflatten(0, (2, LINES))) == 0
    folded = fold(lines.flatten(0, 1)).view_as(lines)
    assert sum(sum(crossings(family)) for family in folded.unflatten(0, (2, LINES))) > LINES


def test_two_lines_that_cross_once_count_it_once_each():
    line = torch.linspace(0, 1, 4)[:, None]
    pair = torch.stack([line * torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0]) + line * torch.tensor([1.0, -1.0])])
    assert crossings(pair.repeat_interleave(3, dim=1)) == [1, 1]


def test_the_outlines_stay_nested_for_any_turn(tmp_path):
    for turn in (0.0, 0.25, 1.5):
        rows = nested_shapes(tmp_path, turn=turn).test
        for points in (rows.inputs, rows.targets):
            inner, outer = points.chunk(2)
            assert inner.norm(dim=1).max() < outer.norm(dim=1).min()
