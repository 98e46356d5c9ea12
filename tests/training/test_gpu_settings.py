"""Precision, equal bits and the cost of solves: what is refused, what is set, and what is said once."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import backends
from training_problem import make_settings

from noderun.config.validation import Incompatible
from noderun.record.effort import remarks
from noderun.training import compatibility
from noderun.training.effort import Effort
from noderun.training.isolation import isolated
from noderun.training.precision import set_deterministic, set_precision, unfit_precision

CPU = torch.device("cpu")


def rounding():
    return {backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision, backends.cudnn.rnn.fp32_precision}


@pytest.mark.parametrize(("word", "kind"), [("float32", "ieee"), ("bf16", "ieee"), ("tf32", "tf32")])
def test_products_are_rounded_as_the_run_says_and_only_there(word, kind):
    before = rounding()
    with isolated(CPU, 0):
        set_precision(word)
        assert rounding() == {kind}
    assert rounding() == before


def test_equal_bits_are_asked_for_on_a_gpu_and_only_in_the_run(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with isolated(CPU, 0):
        set_deterministic(CPU)
        assert not torch.are_deterministic_algorithms_enabled()  # a CPU needs nothing
        set_deterministic(torch.device("cuda"))
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("word", "on_gpu", "rtol", "said"),
    [
        ("float32", False, 1e-7, None),
        ("bf16", False, 1e-3, None),
        ("bf16", False, 1e-4, "rounds f by 9.8e-04"),
        ("bf16", False, None, None),  # fixed steps
        ("tf32", True, 1e-3, None),
        ("tf32", True, 1e-4, "give a tolerance of at least 5e-04"),
        ("tf32", False, 1e-3, "leave it out on a CPU"),
    ],
)
def test_a_tolerance_below_the_precision_is_refused(word, on_gpu, rtol, said):
    found = unfit_precision(word, on_gpu, rtol)
    assert found is None if said is None else said in found


def test_the_refusal_comes_before_training():
    settings = make_settings(precision="bf16")
    settings = replace(settings, solver=replace(settings.solver, rtol=1e-5, atol=1e-5))
    with pytest.raises(Incompatible, match="trainer.precision=bf16 rounds f"):
        compatibility.check(settings, set())


def test_a_dear_backward_pass_and_a_growing_nfe_are_said_once_with_their_remedy():
    rows = [{"nfe/forward": 20.0, "nfe/backward": 20.0}, {"loss/test": 1.0}, {"nfe/forward": 30.0}]
    assert remarks(rows) == {}
    found = remarks([*rows, {"nfe/forward": 41.0, "nfe/backward": 500.0}, {"nfe/forward": 80.0}])
    assert "500 evaluations of f, the forward pass 41" in found["backward"] and "checkpointed" in found["backward"]
    assert "takes 41 evaluations of f, and took 20 at first" in found["forward"]


def test_a_run_is_told_once_and_a_resumed_one_not_again(caplog):
    def epoch(callback, number, **means):
        values = {f"nfe/{name}": value for name, value in means.items()}
        callback.on_epoch_end(
            SimpleNamespace(progress=SimpleNamespace(in_epoch=number, means=SimpleNamespace(values=lambda: values)))
        )

    callback = Effort()
    with caplog.at_level(logging.WARNING):
        for number, forward in enumerate((20.0, 30.0, 50.0, 60.0), start=1):
            epoch(callback, number, forward=forward, backward=forward)
        resumed = Effort()
        resumed.load_state_dict(callback.state_dict())
        epoch(resumed, 5, forward=70.0, backward=2000.0)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["epoch 3", "epoch 5"]
