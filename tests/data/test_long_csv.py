"""A user's own CSV in long form: what is read from it, and the sentence for each thing that can be wrong."""

import pytest
import torch

from noderun.data import DataError
from noderun.data.examples import check_examples
from noderun.data.long_csv import long_csv

GOOD = """id,time,channel,value,age,outcome
a,10,hr,60,70,ill
a,10,bp,120,70,ill
a,12,hr,64,70,ill
b,3,hr,80,50,well
b,7,bp,100,50,well
c,0,hr,75,60,well
c,1,hr,70,60,well
c,1,bp,110,60,well
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        (tmp_path / "mine.csv").write_text(text)
        return str(tmp_path / "mine.csv")

    return write


def read(path, **options):
    return long_csv(None, path=path, **{"test": 0.3, **options})


def test_values_times_and_masks_are_those_of_the_file(written):
    dataset = read(written(GOOD), covariates=["age"], task="interpolate")
    check_examples(dataset)
    assert len(dataset.train) == 2 and len(dataset.test) == 1 and dataset.shape[1] == 3  # age, bp, hr
    found = set()
    for split in (dataset.train, dataset.test):
        for times, mask in zip(split.times, split.mask, strict=True):
            for time, row in zip(times, mask, strict=True):
                found |= {(round(float(time), 3), channel) for channel in row.nonzero().flatten().tolist()}
    measured = dataset.train.inputs * torch.tensor(dataset.target.scale)
    assert float(measured.amax() - measured.amin()) <= 60  # in the file's units, about the channel's mean
    assert found == {(0.0, 0), (0.0, 1), (0.0, 2), (0.5, 2), (1.0, 1), (0.25, 2), (0.25, 1)}


@pytest.mark.parametrize(("task", "target"), [("classify", "Classes(count=2)"), ("interpolate", "Series(dim=2")])
def test_a_label_makes_classes(written, task, target):
    dataset = read(written(GOOD), label="outcome", task=task)
    assert str(dataset.target).startswith(target)
    assert str(read(written(GOOD), label="outcome").target) == "Classes(count=2)"


def test_a_number_is_regressed(written):
    dataset = read(written(GOOD), label="age", task="regress")
    assert sorted([*dataset.train.targets.flatten().tolist(), *dataset.test.targets.flatten().tolist()]) == [50, 60, 70]


WRONG = {
    "unsorted": (GOOD.replace("c,1,hr", "c,-1,hr"), {}, "line 8, record 'c': it goes back in time"),
    "duplicate": (GOOD.replace("a,12,hr", "a,10,hr"), {}, "line 4, record 'a': it repeats a time"),
    "one observation": (GOOD + "d,1,hr,60,50,ill\n", {}, "record 'd' has one observation only"),
    "no value": (GOOD.replace("b,3,hr,80", "b,3,hr,"), {}, "line 5, record 'b': it has no finite number as its value"),
    "infinite": (GOOD.replace("b,3,hr,80", "b,3,hr,inf"), {}, "line 5, record 'b'"),
    "a word as time": (GOOD.replace("a,12", "a,noon"), {}, "line 4, record 'a': it has no finite number as its time"),
    "no id": (GOOD.replace("b,3", ",3"), {}, "line 5, record 'nan': it has no id"),
    "no label": (
        GOOD.replace("hr,75,60,well", "hr,75,60,"),
        {"label": "outcome"},
        "line 7, record 'c': it has no outcome",
    ),
    "two labels": (GOOD.replace("hr,75,60,well", "hr,75,60,ill"), {"label": "outcome"}, "record 'c' has more than one"),
    "one label": (GOOD.replace("well", "ill"), {"label": "outcome"}, "every outcome is 'ill'"),
    "label not named": (GOOD, {"task": "classify"}, "name its column by data.label"),
    "no such column": (GOOD, {"channel": "chanel"}, "no column 'chanel'; did you mean 'channel'"),
    "silent channel": (GOOD.replace("a,10,bp", "a,10,pH"), {"task": "interpolate"}, "channel 'pH' has no value"),
    "no lines": (GOOD.splitlines()[0] + "\n", {}, "has a heading and no lines"),
    "nothing to forecast": (GOOD, {"task": "forecast", "history": 1.0}, "nothing of series 0 is to be answered"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_one_sentence_with_the_record(wrong, written):
    text, options, sentence = WRONG[wrong]
    with pytest.raises(DataError, match=sentence.replace("(", r"\(")) as caught:
        for split_seed in range(3):  # one of which has the record in question in the test
            read(written(text), split_seed=split_seed, **options)
    assert "\n" not in str(caught.value)


def test_times_in_mixed_units_are_a_warning(written, capsys):
    lines = [f"m,{t},hr,{t % 7}" for t in range(20)] + ["m,864000,hr,3"]
    read(written("id,time,channel,value\n" + "\n".join(lines) + "\nn,0,hr,1\nn,1,hr,2\no,0,hr,1\no,1,hr,2\n"))
    assert "record 'm' has a gap of 863981, over 10000 times the median gap of 1" in capsys.readouterr().err


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="no file .*none.csv"):
        read(str(tmp_path / "none.csv"))
    with pytest.raises(DataError, match="give data.path=FILE.csv"):
        long_csv(None)
