"""The space of a search: for paths of a configuration, a range of numbers or a list of choices."""

from __future__ import annotations

import inspect
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_regs.core.names import unknown_name
from lightning_regs.study.paper.config import override, read_yaml

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_KEYS = ("low", "high", "log", "step")
_MOST = 50  # combinations that are looked at before a value is refused
_EXAMPLES = "{low: 0.001, high: 1, log: true} or a list such as [0.1, 0.3]"


class Space:
    """What a search varies, checked against the configuration that it is of.

    Args:
        given: Dotted path -> a list of choices, of any plain data, or ``low`` and ``high`` (both included) of a range,
            with ``log`` or ``step``; of whole numbers where both ends are whole.
        config: The configuration; a path is in it, or is an argument of the class that its section makes.

    Raises:
        ValueError: If there is nothing to vary, a path is unknown, or a range or list is none.
    """

    def __init__(self, given: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        if not given:
            raise ValueError(f"the space varies nothing; give it something such as model.optimizer.lr: {_EXAMPLES}.")
        self.given = dict(given)
        self.choices: dict[str, dict[str, Any]] = {}  # what Optuna knows by a text -> what it stands for
        self.distributions = {path: self._distribution(path, what) for path, what in given.items()}
        for path in given:
            check_known(path, config)

    def settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return what Optuna has chosen, by path, as the configuration has it."""
        return {path: self.choices[path][value] if path in self.choices else value for path, value in params.items()}

    def combinations(self) -> list[dict[str, Any]]:
        """Return all combinations of values, by path, as Optuna knows them.

        Raises:
            ValueError: If a path has a range without steps.
        """
        values = itertools.product(*map(self._values, self.given))
        return [dict(zip(self.given, each, strict=True)) for each in values]

    def check_values(self, config: Mapping[str, Any]) -> None:
        """Refuse a value that trainings take with no value of the other paths; of a range its ends are looked at.

        What some combinations refuse stays: a trial that has one of them fails.
        """
        from lightning_regs.training.options import check_config

        ranges: dict[str, Any] = {path: of for path, of in self.distributions.items() if path not in self.choices}
        ends = {path: list(choices.values()) for path, choices in self.choices.items()}
        ends |= {path: [of.low, of.high] for path, of in ranges.items()}  # with a step, the last that is tried
        for path, values in ends.items():
            others = {other: ends[other] for other in ends if other != path}
            for value in values:
                refused = list[Exception]()
                for beside in ((), *itertools.islice(itertools.product(*others.values()), _MOST)):
                    try:
                        check_config(override(config, {path: value, **dict(zip(others, beside, strict=False))}))
                        break
                    except (TypeError, ValueError) as error:
                        refused.append(error)
                else:
                    raise ValueError(f"{path} of the space is {value!r}: {refused[0]}") from refused[0]

    def _values(self, path: str) -> list[Any]:
        if path in self.choices:
            return list(self.choices[path])
        low, high, step = (self.given[path].get(key) for key in ("low", "high", "step"))
        if step is None:
            raise ValueError(f"a grid has no end of values for {path}, a range; list them, or give the range a step.")
        return [min(low + at * step, high) for at in range(int((high - low) / step * (1 + 1e-9)) + 1)]

    def _distribution(self, path: str, what: Any) -> BaseDistribution:
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if isinstance(what, list) and what:
            self.choices[path] = {json.dumps(choice, sort_keys=True): choice for choice in what}
            return CategoricalDistribution(list(self.choices[path]))
        if not isinstance(what, Mapping) or not {"low", "high"} <= set(what):
            raise ValueError(f"{path} varies over {what!r}; give {_EXAMPLES}.")
        for key, value in what.items():
            if key not in _KEYS:
                raise unknown_name(f"key of the range of {path}", key, _KEYS)
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if not (isinstance(value, bool) if key == "log" else number):
                raise ValueError(f"{key} of the range of {path} is {value!r}; write it like {_EXAMPLES}.")
        whole = all(isinstance(value, int) for value in what.values())
        kind: Any = IntDistribution if whole else FloatDistribution
        try:
            made: BaseDistribution = kind(**what)
        except ValueError as error:
            raise ValueError(f"the range of {path} is none: {error}") from error
        return made


def read_space(texts: Sequence[str]) -> dict[str, Any]:
    """Read a space from files or texts of YAML, later ones winning over earlier ones.

    Raises:
        ValueError: If one of them is no YAML mapping.
    """
    found: dict[str, Any] = {}
    for text in texts:
        is_file = Path(text).is_file()
        data = read_yaml(Path(text) if is_file else text, f"--space {text}")
        if not isinstance(data, dict):
            why = "holds no mapping" if is_file else "is neither a file nor a mapping"
            raise ValueError(f"--space {text} {why}; give a file, or write 'model.optimizer.lr: {_EXAMPLES}'.")
        found |= {str(path): what for path, what in data.items()}
    return found


def check_known(path: str, config: Mapping[str, Any]) -> None:
    """Refuse a path that neither the configuration has nor the class of its section takes."""
    from lightning_regs import Classifier, ImageDataModule
    from lightning_regs.core.lightning import pl

    node: Any = config
    *above, last = path.split(".")
    for key in above:
        node = node.get(key) if isinstance(node, Mapping) else None
    known = set(node) if isinstance(node, Mapping) else set()
    classes = {"model": Classifier, "data": ImageDataModule, "trainer": pl.Trainer}
    if len(above) == 1 and above[0] in classes:
        known |= set(inspect.signature(classes[above[0]]).parameters)
    if last not in known:
        names = [".".join([*above, name]) for name in known] or _paths(config)
        raise ValueError(
            f"{unknown_name('path of the space:', path, names)} The configuration does not have it; write the value "
            "that it has without the search there."
        )
    override(config, {path: None})


def _paths(config: Mapping[str, Any], above: str = "") -> list[str]:
    found: list[str] = []
    for key, value in config.items():
        found += _paths(value, f"{above}{key}.") if isinstance(value, Mapping) else [f"{above}{key}"]
    return found
