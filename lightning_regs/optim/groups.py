"""Groups of an optimizer's parameters, by their names."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch.optim import Optimizer

from lightning_regs.core.checks import check
from lightning_regs.core.names import check_glob, uncompiled

Config = Mapping[str, Any]
Groups = Mapping[str, Config]


def grouped(params: list[Any], config: Config) -> list[dict[str, Any]]:
    """Return parameters in groups as torch takes them, the first of what no glob matches."""
    groups = groups_of(config)
    if not all(isinstance(param, tuple) for param in params):
        raise ValueError(f"the groups {', '.join(groups)} go by parameters' names; give net.named_parameters().")
    left = {uncompiled(name): param for name, param in params}
    made = []
    for glob, own in groups.items():
        check_glob(glob, list(left), "parameters that no other group has")
        chosen = {name: left.pop(name) for name in list(left) if fnmatchcase(name, glob)}
        made.append(dict(own) | {"params": list(chosen.values()), "param_names": tuple(chosen)})
    return [{"params": list(left.values()), "param_names": tuple(left)}] * bool(left) + made


def groups_of(config: Config) -> Mapping[str, Config]:
    """Return the groups of a configuration, of Lookahead its base's."""
    base, groups = config.get("base"), check("groups", config.get("groups") or {}, Groups)
    if isinstance(base, Mapping) and groups:
        raise ValueError(f"groups {', '.join(groups)} belong to the base, which takes the steps; put them there.")
    return groups_of(base) if isinstance(base, Mapping) else groups


def same_groups(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Refuse a state of other groups, which torch gives to parameters by their order alone, of any shape."""
    both = optimizer.param_groups, state["param_groups"]
    ours, theirs = ([group.get("param_names") for group in groups] for groups in both)
    if ours != theirs:
        raise ValueError(
            f"the state is of {len(theirs)} groups of parameters, and the optimizer has {len(ours)}, of others; go on "
            "with the groups that the training began with, or load the weights alone."
        )
