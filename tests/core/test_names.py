import re

from lightning_regs.core.names import unknown_name


def test_suggests_the_nearest_and_lists_all() -> None:
    error = str(unknown_name("data set", "cifar-10", ["mnist", "cifar10", "digits"]))
    assert error == "unknown data set 'cifar-10'. Did you mean 'cifar10'? Known: cifar10, digits, mnist."


def test_says_nothing_where_nothing_is_near() -> None:
    assert "Did you mean" not in str(unknown_name("paper", "xyzzy", ["zhang2017"]))
    assert str(unknown_name("paper", "x", [])).endswith("Known: none.")


def test_of_many_the_nearest_are_listed() -> None:
    error = str(unknown_name("layer", "linear", ["Linear", "LazyLinear", *(f"Conv{n}x" for n in range(100))]))
    assert re.fullmatch(
        r"unknown layer 'linear'\. Did you mean 'Linear'\? Known: Linear, LazyLinear(, Conv\d+x){3}, 102 in all\.",
        error,
    )
