"""What arrived, read as others would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.loggers import wandb_file
from tests.loggers.backends import tensorboard_events


def wandb_run(folder: Path) -> Path:
    """The file of the only offline run in a folder."""
    import wandb

    wandb.teardown()  # Its service writes a run's last rows after the run has finished.
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    return path


def wandb_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of the only offline run in a folder, without W&B's own columns."""
    return [
        {name: value for name, value in row.items() if not name.startswith("_")}
        for row in wandb_file.history(wandb_run(folder))
    ]


def wandb_artifacts(folder: Path) -> list[tuple[str, str]]:
    """Type and name of each version of an artifact in the only offline run."""
    return [
        (
            record.request.log_artifact.artifact.type,
            record.request.log_artifact.artifact.name,
        )
        if record.WhichOneof("record_type") == "request"
        else (record.artifact.type, record.artifact.name)
        for record in wandb_file.records(wandb_run(folder))
        if record.WhichOneof("record_type") == "artifact"
        or (
            record.WhichOneof("record_type") == "request"
            and record.request.WhichOneof("request_type") == "log_artifact"
        )
    ]


def tags(folder: Path, kind: str) -> list[str]:
    """TensorBoard's tags of a kind: scalars, images, histograms."""
    found: list[str] = sorted(tensorboard_events(folder).Tags()[kind])
    return found
