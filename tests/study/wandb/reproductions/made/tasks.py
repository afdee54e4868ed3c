"""Tasks that are cheap: one that logs rows as a training does, one that has no curve."""

import math


def measure(config, run):
    for number in range(config["rows"]):
        row = {"step": 24 * (number + 1), "epoch": number + 1, "train_loss": 1 / (number + 3), "val.acc": number / 7}
        if config.get("odd") and number == 1:
            row |= {"train_loss": math.nan, "val.acc": -math.inf, "_runtime": 0.1, "a \"b'\n": 1e-300}
        run.log_curve(row)
    run.epochs = config["rows"]
    metrics = {"train_acc": 100 / 3 + run.seed, "fit_epoch": math.nan, "count": 7, "tiny": 5e-324, "val.acc": 0.1 + 0.2}
    return metrics | ({"best": math.inf, "_step": 3.5, "worst": -math.inf} if config.get("odd") else {})


def nothing(config, run):
    return {"norm": 2.5}
