"""One Weights & Biases run that is being told of. Only the process that writes them imports wandb."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_regs.study.wandb.check import check
from lightning_regs.study.wandb.mark import Mark
from lightning_regs.study.wandb.record import AXIS, Entry, history

# A run of ours is plain numbers: nothing of the process, the machine or the working directory belongs to it.
_QUIET = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "save_code": False,
    "silent": True,
    "symlink": False,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
    # Seconds: to start a run on the server, and to upload what is left of it at its end.
    "init_timeout": 30.0,
    "finish_timeout": 120.0,
    "finish_timeout_raises": True,
}


class Unable(Exception):
    """Logging cannot go on; the text says why."""


def import_wandb() -> Any:
    """Import wandb.

    Raises:
        Unable: If that fails, in whatever way.
    """
    try:
        import wandb
    except Exception as error:  # broken installations raise all kinds
        raise Unable(f"wandb cannot be imported ({why(error)})") from error
    return wandb


def why(error: BaseException) -> str:
    """Write an error as one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(".")


def start(entry: Entry, config: dict[str, Any], online: bool) -> Any:
    """Start a W&B run.

    Args:
        entry: What it is.
        config: Its configuration.
        online: Whether it goes to the server, where one that was cut short goes on. An offline run cannot be resumed:
            it is written from its first row.
    """
    wandb = import_wandb()
    wanted = _QUIET | {"mode": "online" if online else "offline", "root_dir": entry.folder}
    fields = wandb.Settings.model_fields  # an older wandb knows fewer
    return wandb.init(
        id=entry.id,
        name=entry.name,
        group=entry.group,
        job_type=entry.job_type,
        tags=list(entry.tags),
        project=entry.project,
        entity=entry.entity,
        config=config,
        resume="allow" if online else None,
        reinit="create_new",
        settings=wandb.Settings(**{name: value for name, value in wanted.items() if name in fields}),
    )


@dataclass
class OpenRun:
    """A W&B run that was started and is not finished.

    Args:
        entry: What it is.
        mark: Where it is said when it is complete.
        run: wandb's run.
        online: Whether it goes to the server.
        held: Its lock.
        sent: How many rows W&B has.
    """

    entry: Entry
    mark: Mark
    run: Any
    online: bool
    held: contextlib.ExitStack
    sent: int = 0

    def define_axis(self) -> None:
        """Draw everything over the training step, and leave the summary to what we put into it."""
        self.run.define_metric(AXIS, summary="none")
        self.run.define_metric("*", step_metric=AXIS, summary="none")

    def feed(self, rows: Sequence[dict[str, float]]) -> None:
        """Send the rows that W&B does not have yet; the step is the row's number, so none can be there twice.

        Args:
            rows: All rows of the run's curves so far.
        """
        points = history(rows)
        new = points[self.sent :]
        for name in dict.fromkeys(name for point in new for name in point if "." in name):
            # W&B takes a dot for a path, and its `*` leaves those out.
            escaped = name.replace("\\", "\\\\").replace(".", "\\.")
            self.run.define_metric(escaped, step_metric=AXIS, summary="none")
        for step, point in enumerate(new, self.sent):
            self.run.log(point, step=step)
        self.sent += len(new)

    def log_results(self, results: dict[str, Any]) -> None:
        """Log what :func:`~lightning_regs.study.wandb.results.describe` gives."""
        wandb = import_wandb()
        claims = results["claims"]
        logged = {"claims": wandb.Table(columns=claims["columns"], data=claims["data"], allow_mixed_types=True)}
        for image in results["images"]:
            logged[f"figure/{image['id']}"] = wandb.Image(image["path"], caption=image["caption"])
        self.run.log(logged)
        self.sent += 1
        self.run.summary.update(results["summary"])
        artifact = wandb.Artifact(results["artifact"], type="results")
        for path in results["files"]:
            artifact.add_file(path, name=Path(path).name)
        self.run.log_artifact(artifact)

    def finish(self, digest: str | None) -> None:
        """Finish it, and say so when it is complete; lets go of its lock.

        Args:
            digest: Hash of what it was told; None for a run that was cut short. Of such a one nothing is left here:
                what the server has of it goes on at the next attempt.
        """
        with self.held:
            self.run.finish(exit_code=int(digest is None))
            folder = self.mark.folder / Path(self.run.settings.sync_dir).name
            if digest is None:
                shutil.rmtree(folder, ignore_errors=True)
                return
            for name in ("logs", "tmp"):
                shutil.rmtree(folder / name, ignore_errors=True)
            if not self.online:
                check(folder / f"run-{self.entry.id}.wandb", self.sent)
            self.mark.write(self.entry, digest, folder, uploaded=self.online)
