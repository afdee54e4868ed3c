from __future__ import annotations

import hashlib
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regs.core.identity import canonical
from lightning_regs.study.paper.cells import Cell
from lightning_regs.study.paper.config import find_config, override, resolve, search_folders

YAML = """
# a comment
model:
  network: mlp
  optimizer: {lr: 1e-2, weight_decay: 5e-4, momentum: .9}
  hidden: [512, 256]
trainer:
  max_epochs: 64
  precision: null
data:
  source: cifar10
  random_crop: false
"""

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def configs(tmp_path, monkeypatch):
    folder = tmp_path / "configs" / "p"
    folder.mkdir(parents=True)
    (folder / "mlp.yaml").write_text(YAML)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIGHTNING_REGS_PAPERS", raising=False)
    return folder


def test_a_config_is_plain_data_with_numbers_as_numbers(configs):
    assert resolve("configs/p/mlp.yaml") == {
        "model": {
            "network": "mlp",
            "optimizer": {"lr": 0.01, "weight_decay": 0.0005, "momentum": 0.9},
            "hidden": [512, 256],
        },
        "trainer": {"max_epochs": 64, "precision": None},
        "data": {"source": "cifar10", "random_crop": False},
    }


def test_numbers_are_read_as_jsonargparse_reads_them_and_text_stays_text(configs):
    from jsonargparse import ArgumentParser

    parser = ArgumentParser()
    numbers = ("1e-3", "5E4", "-1e3", "+2e+2", "1.5e-3", ".5", "1_0e2", "3.", "7", "-0.25")
    for name in "abcdefghij":
        parser.add_argument(f"--x.{name}", type=float)
    lines = [f"  {name}: {text}\n" for name, text in zip("abcdefghij", numbers, strict=True)]
    (configs / "number.yaml").write_text(f"x:\n{''.join(lines)}")
    ours = resolve("p/number.yaml")["x"]
    assert all(isinstance(number, (int, float)) for number in ours.values())
    assert ours == parser.parse_path(str(configs / "number.yaml")).x.as_dict()
    words = ["1e", "e5", "1.2.3", "1-e3", "a5e4", ".", "1e5x"]
    (configs / "text.yaml").write_text(f"x: [{', '.join(words)}]\n")
    assert resolve("p/text.yaml") == {"x": words}


def test_overrides_are_merged(configs):
    config = resolve(
        "p/mlp.yaml",
        {
            "trainer.max_epochs": 3,
            "model.optimizer": {"lr": 0.1, "nesterov": True},
            "model.hidden": (64,),
            "data.val_split": 0.1,
            "optimizer.class_path": "torch.optim.SGD",
            "trainer.precision.new": 1,
            "fitted": 99.0,
        },
    )
    assert config["trainer"] == {"max_epochs": 3, "precision": {"new": 1}}
    assert config["model"]["optimizer"] == {"lr": 0.1, "weight_decay": 0.0005, "momentum": 0.9, "nesterov": True}
    assert config["model"]["hidden"] == [64]
    assert config["data"] == {"source": "cifar10", "random_crop": False, "val_split": 0.1}
    assert config["fitted"] == 99.0
    assert config["optimizer"] == {"class_path": "torch.optim.SGD"}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"name": "Adam", "lr": 1}, {"name": "Adam", "lr": 1}),
        ({"class_path": "torch.optim.SGD"}, {"class_path": "torch.optim.SGD"}),
        ({"name": "SGD", "lr": 1}, {"name": "SGD", "lr": 1, "momentum": 0.9}),
        ({"lr": 1}, {"name": "SGD", "lr": 1, "momentum": 0.9}),
    ],
)
def test_a_mapping_of_another_class_takes_no_options_of_the_first(given, found):
    there = {"model": {"optimizer": {"name": "SGD", "lr": 0.1, "momentum": 0.9}}}
    assert override(there, {"model.optimizer": given}) == {"model": {"optimizer": found}}
    assert override(there, {"model": {"optimizer": given}}) == {"model": {"optimizer": found}}


def test_nothing_is_shared(configs):
    mine = {"a": [1]}
    first = resolve("p/mlp.yaml", {"model.extra": mine})
    first["model"]["hidden"].append(1)
    first["model"]["extra"]["a"].append(2)
    assert (mine, resolve("p/mlp.yaml")["model"]["hidden"]) == ({"a": [1]}, [512, 256])


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ({"trianer.max_epochs": 1}, ValueError, "unknown config section 'trianer'. Did you mean 'trainer'"),
        ({"trianer": {"max_epochs": 1}}, ValueError, "unknown config section 'trianer'"),
        ({"model.network.x": 1}, ValueError, "goes through 'model.network', which is 'mlp'"),
        ({"model.hidden.0": 1}, ValueError, "goes through 'model.hidden'"),
        ({"model..x": 1}, ValueError, "empty part"),
        ({"": 1}, ValueError, "empty part"),
        ({"model.x": object()}, TypeError, "model.x is a object"),
        ({"model.x": [1, {2: 3}]}, TypeError, r"model.x\[1\] has the key 2"),
        ({"model.x": math.nan}, ValueError, "model.x is nan"),
    ],
)
def test_bad_overrides_are_refused(configs, override, error, message):
    with pytest.raises(error, match=message):
        resolve("p/mlp.yaml", override)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "is no YAML"),
        ("- 1\n", "holds list, not a mapping"),
        ("", "holds NoneType"),
        ("a: 2020-01-01", "date"),
        ("a: " + "[" * 1000, "is no YAML: maximum recursion depth"),
        ("a: &a\n  b: [*a]", r"unfolds without end by its aliases .* write out what it needs"),
        (
            "\n".join(["l0: &l0 1", *(f"l{i}: &l{i} [{f'*l{i - 1}, ' * 9}]" for i in range(1, 30))]),
            r"to 5.96e\+27 entries",
        ),
        (
            "\n".join(["l0: &l0 {a: 1}", *(f"l{i}: &l{i} {{<<: [{f'*l{i - 1}, ' * 9}]}}" for i in range(1, 9))]),
            "entries",
        ),
    ],
)
def test_bad_files_are_named(configs, text, message):
    (configs / "bad.yaml").write_text(text)
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        resolve("p/bad.yaml")
    assert "bad.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_edited_config_is_read_again_and_an_unknown_one_suggests_the_nearest(configs):
    resolve("p/mlp.yaml")
    (configs / "mlp.yaml").write_text("model: {network: other}\n")
    assert resolve("p/mlp.yaml") == {"model": {"network": "other"}}
    with pytest.raises(ValueError, match=r"unknown config 'configs/p/mpl.yaml'. Did you mean 'configs/p/mlp.yaml'"):
        resolve("configs/p/mpl.yaml")


def test_lookup_order(configs, tmp_path, monkeypatch):
    assert find_config("configs/p/mlp.yaml") == configs / "mlp.yaml"
    assert find_config(configs / "mlp.yaml") == configs / "mlp.yaml"
    other = tmp_path / "other"
    (other / "configs" / "p").mkdir(parents=True)
    (other / "reproductions").mkdir()
    (other / "configs" / "p" / "mlp.yaml").write_text("a: 1")
    for named in (other, other / "reproductions"):
        monkeypatch.setenv("LIGHTNING_REGS_PAPERS", str(named))
        assert resolve("configs/p/mlp.yaml") == {"a": 1}
        assert search_folders("reproductions")[0] == other / "reproductions"
    monkeypatch.setenv("LIGHTNING_REGS_PAPERS", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"LIGHTNING_REGS_PAPERS is .*nowhere', which is not a folder"):
        resolve("configs/p/mlp.yaml")


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=4), plain, max_size=4), st.integers(0, 99))
@pytest.mark.slow
def test_hash_ignores_order_and_survives_json(config, seed):
    turned = dict(reversed(list(config.items())))
    through_json = json.loads(json.dumps(config))
    named = Cell("c", "m:f", config).hash(seed)
    assert named == Cell("c", "m:f", turned).hash(seed) == Cell("c", "m:f", through_json).hash(seed)
    assert named not in (Cell("c", "m:f", config).hash(seed + 1), Cell("c", "m:g", config).hash(seed))


def test_hash_is_sha256_of_the_canonical_text():
    config = {"b": 0.1, "a": (1, None, True), "z": -0.0}
    text = '{"config":{"a":[1,null,true],"b":0.1,"z":0.0},"seed":3,"task":"m:f"}'
    assert canonical({"task": "m:f", "config": config, "seed": 3}) == text
    assert Cell("c", "m:f", config).hash(3) == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert Cell("c", "m:f", {"x": 1}).hash(0) != Cell("c", "m:f", {"x": 1.0}).hash(0)
    with pytest.raises(ValueError, match="inf"):
        Cell("c", "m:f", {"x": math.inf})
