"""What annotations say: which values are taken, as what, and which are refused in which words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_regs.core.checks import Count, Number, Positive, Range, Shape, Share, check, checked, nonempty

Rate = Annotated[float, Range(above=0, below=1, why="it is a share")]


@pytest.mark.parametrize(
    ("hint", "given", "made"),
    [
        (Share, 1, 1.0),
        (Positive, Fraction(1, 4), 0.25),
        (Count, np.int64(3), 3),
        (Number, math.inf, math.inf),
        (bool, np.bool_(True), True),
        (Literal[1, 2], 2.0, 2),
        (Sequence[int], np.arange(2), [0, 1]),
        (Sequence[int], {0: "a"}.keys(), (0,)),
        (tuple[int, float], [1, 2], (1, 2.0)),
        (Mapping[str, Share], {"a": torch.tensor(0.5)}, {"a": 0.5}),
        (Tensor | float, 2, 2.0),
        (Count | None, None, None),
    ],
)
def test_what_fits_is_taken_as_what_it_stands_for(hint: Any, given: Any, made: Any) -> None:
    found = check("x", given, hint)
    assert (type(found), found) == (type(made), made)


@pytest.mark.parametrize(
    ("hint", "given", "error", "message"),
    [
        (Share, 1.5, ValueError, "x must be at least 0 and at most 1, got 1.5."),
        (Positive, 0, ValueError, "x must be above 0, got 0.0."),
        (Rate, 1, ValueError, "x must be above 0 and below 1, got 1.0: it is a share."),
        (Positive, math.nan, ValueError, "x must be above 0, got nan."),
        (float, math.inf, ValueError, "x must be finite, got inf."),
        (Count, 0, ValueError, "x must be at least 1, got 0."),
        (Count, 2**63, ValueError, "x must fit into 64 bits, got 9223372036854775808."),
        (Count, 2.0, TypeError, "x must be an integer, got 2.0."),
        (Count, True, TypeError, "x must be an integer, got True."),
        (Positive, "1", TypeError, "x must be a number, got '1'."),
        (bool, 1, TypeError, "x must be True or False, got 1."),
        (Literal[1, 2], 3, ValueError, "x must be 1 or 2, got 3."),
        (Literal["sum", "mean"], "maen", ValueError, "unknown x 'maen'. Did you mean 'mean'? Known: mean, sum."),
        (Annotated[str, nonempty], "", ValueError, "x is empty; give at least one."),
        (Sequence[int], "ab", TypeError, "x must be a sequence, got 'ab'."),
        (tuple[str, ...], "ab", TypeError, "x must be a tuple, got 'ab'; write ('ab',)."),
        (tuple[int, int], (1, 2, 3), TypeError, "x must be 2 values, got (1, 2, 3)."),
        (Sequence[Share], [0.5, 2], ValueError, "x[1] must be at least 0 and at most 1, got 2.0."),
        (Mapping[str, Share], {"a": -1}, ValueError, "x['a'] must be at least 0 and at most 1, got -1.0."),
        (Annotated[int | None, "a number of nets"], "b", TypeError, "x must be a number of nets, got 'b'."),
        (Iterable[int] | str, 3, TypeError, "x must be an iterable or text, got 3."),
        (nn.Module, "mlp", TypeError, "x must be a Module, got 'mlp'."),
        (type[nn.Module], nn.ReLU(), TypeError, "x must be a subclass of Module, got ReLU()."),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(
    hint: Any, given: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        check("x", given, hint)


def test_letters_of_shapes_are_one_size_in_a_call() -> None:
    @checked
    def mix(x: Annotated[Tensor, Shape("N D ...", "floating-point")], y: Annotated[Tensor, Shape("N 2")]) -> int:
        return len(x) + len(y)

    assert mix(torch.rand(3, 1, 5), torch.zeros(3, 2)) == 6
    with pytest.raises(ValueError, match=r"^y must have the shape \(N, 2\) with N = 3, as in x, got \(4, 2\)\.$"):
        mix(torch.rand(3, 1), y=torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"^x must have the shape \(N, D, \.\.\.\), got \(3,\)\.$"):
        mix(torch.rand(3), torch.zeros(3, 2))
    with pytest.raises(TypeError, match=r"^x must be floating-point, got torch\.int64\.$"):
        mix(torch.arange(3)[:, None], torch.zeros(3, 2))
