from lightning_regs.core.names import unknown_name


def test_suggests_the_nearest_and_lists_all() -> None:
    error = str(unknown_name("data set", "cifar-10", ["mnist", "cifar10", "digits"]))
    assert error == "unknown data set 'cifar-10'. Did you mean 'cifar10'? Known: cifar10, digits, mnist."


def test_says_nothing_where_nothing_is_near() -> None:
    assert "Did you mean" not in str(unknown_name("paper", "xyzzy", ["zhang2017"]))
    assert str(unknown_name("paper", "x", [])).endswith("Known: none.")
