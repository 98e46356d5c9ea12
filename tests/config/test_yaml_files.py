"""YAML that somebody wrote by hand or sent: a mapping, or one sentence with file and line."""

import pytest

from noderun.config import config_folder
from noderun.config.compose import Composer
from noderun.config.validation import ConfigError
from noderun.config.yaml_files import MAX_VALUES, read_mapping

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1}, ' * 9}]\n" for i in range(1, 30))
WRONG = {  # content -> what is said after the file's name
    "hello": ":1: expected a mapping",
    "\n- a\n- b": ":2: expected a mapping",
    "name: a\n\tspeed: 1": ":2: found character '\\t'",
    "name: a\nspeed: 1\nspeed: 2": ":3: the key 'speed' is there twice",
    "name: a\nx: {b: 1, b: 2}": ":2: the key 'b' is there twice",
    "name: a\n---\nname: b": ":2: expected a single document",
    "name: [1": ":1: expected ',' or ']'",
    "name: a\nx: *y": ":2: found undefined alias 'y'",
    "name: a\nx: &y [*y]": ":2: an alias stands inside what it names",
    "&y\nname: *y": ":1: an alias stands inside what it names",
    "name: a\n<<: 3": ":2: expected a mapping or list of mappings for merging",
    "name: a\nx: !mine 3": ":2: the tag !mine means nothing here",
    "name: !!python/object/apply:os.system [ls]": ":1: the tag tag:yaml.org,2002:python/object/apply:os.system",
    "name: a\nx: !!binary aGVsbG8=": ":2: the tag tag:yaml.org,2002:binary",
    "name: !!set {a, b}": ":1: the tag tag:yaml.org,2002:set",
    "name: !!int abc": ": invalid literal for int()",
    "name: a\n~: 2": ":2: a key must be a word",
    "name: a\n[1, 2]: 2": ":2: a key must be a word",
    "name: a\nx: b\0": ":2: the character #x0000 is not allowed",
    BOMB: f": it holds more than {MAX_VALUES} values",
    "x: " + "[" * 5000 + "]" * 5000: ": it is nested too deeply",
    b"name: a\ncity: M\xfcnchen": ":2: it is not in UTF-8",
    "name: a".encode("utf-16"): ":1: it is not in UTF-8",
}
RIGHT = {
    "": {},
    "# nothing": {},
    "name: a": {"name": "a"},
    "\ufeffname: a": {"name": "a"},
    "base: &b {x: 1}\nmore:\n  <<: *b\n  y: 2": {"base": {"x": 1}, "more": {"x": 1, "y": 2}},
    "name: ${oc.env:HOME}\n_target_: os.system": {"name": "${oc.env:HOME}", "_target_": "os.system"},
}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("content", WRONG, ids=WRONG.values())
def test_what_is_wrong_has_a_file_and_a_line(content, tmp_path):
    path = write(tmp_path / "dynamics/mine.yaml", content)
    with pytest.raises(ConfigError) as caught:
        read_mapping(path)
    said = str(caught.value)
    where, _, reason = WRONG[content].rpartition(": ")
    assert said.startswith(f"{path}{where}") and reason in said and "\n" not in said
    with pytest.raises(ConfigError) as composed:  # and so says the command line
        Composer("train", [tmp_path, config_folder()]).compose(["dynamics=mine"])
    assert str(composed.value) == said


@pytest.mark.parametrize("content", RIGHT)
def test_what_is_right_is_read(content, tmp_path):
    assert read_mapping(write(tmp_path / "mine.yaml", content)) == RIGHT[content]


@pytest.mark.parametrize(
    "defaults", ["5", "[3]", "[{}]", "[{1: 2}]", "[{a: {b: c}}]", "[nothing]", "[mine]", "[{override /solver: nope}]"]
)
def test_a_wrong_defaults_list_is_one_sentence(defaults, tmp_path):
    write(tmp_path / "dynamics/mine.yaml", f"defaults: {defaults}\nname: mine")
    with pytest.raises(ConfigError) as caught:
        Composer("train", [tmp_path, config_folder()]).compose(["dynamics=mine"])
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_read_may_be_wrong(tmp_path):
    write(tmp_path / "dynamics/other.yaml", "name: [")
    write(tmp_path / "dynamics/mine.yaml", "name: conv")
    assert Composer("train", [tmp_path, config_folder()]).compose(["dynamics=mine"]).dynamics.name == "conv"
