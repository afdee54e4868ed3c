from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regs.procedures.tickets import Time


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(["it", "ep"]))
def test_what_is_written_is_read(value: int, unit: Any) -> None:
    time = Time(value, unit)
    assert Time.parse(str(time)) == time == Time.parse(time)
    assert time.iterations(7) == value * (7 if unit == "ep" else 1)


@pytest.mark.parametrize("text", ["", "5", "it", "-1it", "1.5ep", "2 epochs", "5 it", "5IT", "1e3it", "5it,2ep"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="like '500it' or '2ep'"):
        Time.parse(text)


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="like '500it' or '2ep', got 500"):
        Time.parse(500)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="value must be at least 0, got -1"):
        Time(-1)
