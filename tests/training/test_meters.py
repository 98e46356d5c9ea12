import torch

from noderun.training.meters import Means, solve_numbers


def test_means_weigh_and_survive_a_checkpoint():
    means = Means()
    means.add({"a": 1.0, "b": None}, weight=3)
    means.add({"a": torch.tensor(5.0), "c": 2}, weight=1)
    assert means.values() == {"a": 2.0, "c": 2.0}
    assert means.total("a") == 8.0
    again = Means.from_state(means.state_dict())
    for each in (means, again):
        each.add({"a": torch.tensor(0.1)})
    assert again.values() == means.values()


def test_blocks_add_up_and_what_a_method_lacks_is_none():
    class Stats:
        nfe_forward, nfe_backward, accepted, rejected = 7, None, 2, 1

    assert solve_numbers([Stats, Stats]) == {
        "nfe/forward": 14,
        "nfe/backward": None,
        "steps/accepted": 4,
        "steps/rejected": 2,
    }
    assert set(solve_numbers([]).values()) == {None}
