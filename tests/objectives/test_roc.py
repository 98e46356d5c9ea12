"""The area under the ROC curve beside scikit-learn's, and its standard error beside the spread of repeated draws."""

import math

import torch
from sklearn.metrics import roc_auc_score

from noderun.objectives.roc import auc


def test_the_area_is_scikit_learns_with_ties():
    generator = torch.Generator().manual_seed(0)
    positive = torch.rand(300, generator=generator) < 0.2
    scores = (4 * torch.randn(300, generator=generator) + 3 * positive).round()
    assert abs(auc(scores, positive)[0].item() - roc_auc_score(positive.numpy(), scores.numpy())) < 1e-12


def test_the_standard_error_is_the_spread_over_draws():
    generator = torch.Generator().manual_seed(1)
    positive = torch.arange(200) < 40
    draws = [auc(torch.randn(200, generator=generator) + positive, positive) for _ in range(400)]
    areas, errors = (torch.tensor(column) for column in zip(*draws, strict=True))
    assert abs(float(errors.mean() / areas.std()) - 1) < 0.12  # 3.4 standard errors of a spread over 400 draws
    assert abs(float(areas.mean()) - 0.5 * (1 + math.erf(0.5))) < 4 * float(areas.std()) / 20


def test_one_class_has_no_area():
    assert all(map(math.isnan, auc(torch.ones(3), torch.ones(3, dtype=torch.bool))))
