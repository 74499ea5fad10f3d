"""The state of a training as bytes, from which the training goes on in another process; reading it executes no code."""

from __future__ import annotations

import io

import torch

from aebench.errors import AebenchError
from aebench.training.trainer import Trainer


def save_trainer(trainer: Trainer, training_hash: str) -> bytes:
    """The state of a trainer between two turns.

    Args:
        trainer: what to save.
        training_hash: of the spec of its training.
    """
    buffer = io.BytesIO()
    torch.save({"training": training_hash, "state": trainer.state_dict()}, buffer)
    return buffer.getvalue()


def restore_trainer(trainer: Trainer, training_hash: str, content: bytes, device: torch.device) -> None:
    """Let a new trainer continue from what `save_trainer` returned; after an error it cannot be used.

    Raises:
        AebenchError: the state is that of another training.
        Exception: the content is not such a state, contains more than numbers, strings, lists, dicts and tensors, or
            does not fit the model.
    """
    saved = torch.load(
        io.BytesIO(content),
        map_location=lambda storage, location: (
            storage if location == "cpu" else torch.serialization.default_restore_location(storage, str(device))
        ),
        weights_only=True,
    )
    if saved["training"] != training_hash:
        raise AebenchError(f"it is of the training {saved['training']}, not of {training_hash}")
    trainer.load_state_dict(saved["state"])
