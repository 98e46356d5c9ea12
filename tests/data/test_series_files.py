"""Published sets of series, from small files of their formats, and from the real ones under NODERUN_DATA."""

import io
import os
import tarfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from noderun.data import SETS, Classes, DataError, DataMissing
from noderun.data.examples import check_examples
from noderun.data.physionet import CHANNELS, FOLDER

FROM_FILES = [
    name for name, source in SETS.items() if source.sample == "series" and source.require and name != "hopper"
]
STAYS = {
    "a": {
        11: "00:00,Age,54\n00:00,Height,-1\n00:07,HR,70\n00:08,HR,80\n47:50,HR,60\n",
        7: "00:00,Age,30\n01:00,pH,7.4\n",
    },
    "b": {5: "00:00,Age,40\n00:30,HR,90\n02:00,Height,170\n"},
}


@pytest.fixture
def physionet(tmp_path):
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    for letter, stays in STAYS.items():
        with tarfile.open(folder / f"set-{letter}.tar.gz", "w:gz") as archive:
            for stay, lines in stays.items():
                content = f"Time,Parameter,Value\n00:00,RecordID,{stay}\n{lines}".encode()
                info = tarfile.TarInfo(f"set-{letter}/{stay}.txt")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        rows = "".join(f"{stay},1,1,1,-1,{int(stay == 11)}\n" for stay in stays)
        heading = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n"
        (folder / f"Outcomes-{letter}.txt").write_text(heading + rows)
    return tmp_path


def test_physionets_stays_are_read_rounded_and_averaged(physionet):
    dataset = SETS["physionet2012"].read(physionet, task="classify")
    assert dataset.train.targets.tolist() == [0, 1]  # stays 7 and 11
    hr, age, height = (CHANNELS.index(name) for name in ("HR", "Age", "Height"))
    times, mask, values = dataset.train.times[1], dataset.train.mask[1], dataset.train.inputs[1]
    assert mask[:, hr].nonzero().flatten().tolist() == [1, 2] and not mask[:, height].any() and mask[0, age]
    assert torch.allclose(times, torch.tensor([0.0, 0.1, 47.8]) / 48)
    # 70 and 80 fall into one tenth of an hour; 75 and 60 are a standard deviation from their mean
    assert torch.allclose(values[1:, hr], torch.tensor([1.0, -1.0]))
    fine = SETS["physionet2012"].read(physionet, task="classify", quantize=0.0)
    assert fine.train.mask[1, :, hr].sum() == 3 and fine.train.times.max() == (47 * 60 + 50) / (60 * 48)


def test_the_extent_of_physionets_channels_is_that_of_both_sets(physionet):
    extent = SETS["physionet2012"].read(physionet, task="interpolate").target.system.extent
    hr, age, height, gender = (CHANNELS.index(name) for name in ("HR", "Age", "Height", "Gender"))
    assert extent[hr] == 90 - 60 and extent[age] == 54 - 30 and extent[height] == extent[gender] == 1


def test_a_stay_without_measurements_is_named(physionet):
    with (physionet / FOLDER / "Outcomes-b.txt").open("a") as file:
        file.write("99,1,1,1,-1,0\n")
    with pytest.raises(DataError, match="set b: stay 99 has an outcome and no measurement"):
        SETS["physionet2012"].read(physionet)


def test_series_of_unequal_length_are_padded(tmp_path):
    folder = tmp_path / "UEA/JapaneseVowels"
    folder.mkdir(parents=True)
    text = "@problemName x\n@classLabel true 1 2\n@data\n1,2,3:4,5,6:1\n7,8:9,1:2\n"
    for split in ("TRAIN", "TEST"):
        (folder / f"JapaneseVowels_{split}.ts").write_text(text)
    dataset = SETS["japanese_vowels"].read(tmp_path)
    assert dataset.target == Classes(9) and dataset.train.targets.tolist() == [0, 1]
    assert dataset.train.mask.sum((1, 2)).tolist() == [6, 4] and dataset.train.times.tolist() == [[0, 1, 2], [0, 1, 1]]
    (folder / "JapaneseVowels_TRAIN.ts").write_text(text.replace("7,8", "7,?"))
    with pytest.raises(DataError, match=r"TRAIN\.ts: series 2 cannot be read"):
        SETS["japanese_vowels"].read(tmp_path)


@pytest.mark.parametrize("name", FROM_FILES)
def test_a_missing_file_is_named_with_where_a_copy_comes_from(name, tmp_path):
    for call in (SETS[name].require, SETS[name].read):
        with pytest.raises(DataMissing, match=rf"^no file {tmp_path}/.*; .* ha(s|ve) (it|them)$"):
            call(tmp_path)


def test_the_hopper_is_simulated_or_names_what_it_needs(tmp_path):
    if find_spec("dm_control") is None:
        with pytest.raises(DataError, match=r"hopper is simulated by dm-control.*pip install 'noderun.mujoco.'"):
            SETS["hopper"].read(tmp_path)
    else:
        dataset = SETS["hopper"].read(tmp_path, examples=5)
        check_examples(dataset)
        assert dataset.shape == (200, 14) and len(dataset.test) == 1


@pytest.mark.parametrize("name", FROM_FILES)
def test_the_published_files_are_read(name):
    if "NODERUN_DATA" not in os.environ:
        pytest.skip("the published files are under the folder that NODERUN_DATA names; it is not set")
    dataset = SETS[name].read(Path(os.environ["NODERUN_DATA"]))
    check_examples(dataset)
    sizes = {"lynx_hare": (1, 1), "japanese_vowels": (270, 370), "mocap35": (16, 4), "mujoco_forecast": (80, 20)}
    assert (len(dataset.train), len(dataset.test)) == sizes.get(name, (3200, 4000))
    if name == "physionet2012":
        assert (dataset.train.targets.sum(), dataset.test.targets.sum()) == (554, 568)
    if name == "mocap35":
        assert dataset.validation.inputs.shape[0] == 3


def test_arrays_are_read_as_series(tmp_path):
    (tmp_path / "MuJoCo").mkdir()
    np.save(tmp_path / "MuJoCo/mujoco.npy", np.arange(100 * 100 * 2, dtype="float32").reshape(100, 100, 2))
    dataset = SETS["mujoco_forecast"].read(tmp_path)
    assert dataset.train.inputs.shape == (80, 50, 2) and len(dataset.test) == 20
