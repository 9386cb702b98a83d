"""Whether a checkpoint is one that this run can go on from, asked before anything is written."""

from pathlib import Path
from typing import Any

from torch import Tensor

from taut.config.checkpoint_files import weights_at
from taut.data.base import Data
from taut.errors import UserError
from taut.training.checkpoint import AtomicCheckpointIO
from taut.training.module import LatentVariableModel


def refuse_unfit(path: Path, model: LatentVariableModel, data: Data, max_epochs: int | None) -> None:
    """Refuse a checkpoint of other data, of a model of another shape, or of more epochs than are asked for.

    The weights are loaded, as they will be once more when the training starts.

    Args:
        path: The checkpoint.
        model: The model that is to go on from it.
        data: Its data.
        max_epochs: Epochs that it is to be trained in all; ``None`` and -1 for no limit.

    Raises:
        UserError: For the first thing that does not fit.
        RuntimeError: Torch's, if the weights do not fit.
    """
    checkpoint = AtomicCheckpointIO().load_checkpoint(path)
    state = checkpoint.get(type(data).__qualname__)
    if state is None or not {"state_dict", "epoch", "optimizer_states", "lr_schedulers"} <= checkpoint.keys():
        raise UserError(f"{path} is not a checkpoint of a training run on {data.name}; restore the files of the run.")
    try:
        data.load_state_dict(state)
        model.load_state_dict(checkpoint["state_dict"])
        done = int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
    # a seal shows that a checkpoint is whole, not that a training wrote it
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"The checkpoint {path} does not fit this run ({type(error).__name__}: {error}); restore the files of the "
            "run, or remove it to use an older checkpoint."
        ) from error
    if max_epochs is not None and 0 <= max_epochs < done:
        raise UserError(
            f"trainer.max_epochs={max_epochs} is less than the {done} epochs that the run has been trained for; choose "
            "more, or leave it out."
        )


PIECES = ("joint.", "q.")
"""Where the weights of a model are; the rest of its state belongs to one training."""


def start_from(place: str, model: LatentVariableModel, data: Data) -> str:
    """Give a new model the weights of a checkpoint, and nothing else of it: neither optimiser nor epoch.

    Args:
        place: What ``ckpt_path=`` names, a file or the folder of a run.
        model: The model, built.
        data: Its data.

    Returns:
        A sentence on where the weights are from.

    Raises:
        UserError: If there is no such checkpoint, it is damaged, or its weights are of another model or not finite.
    """
    path = weights_at(place)
    checkpoint = AtomicCheckpointIO().load_checkpoint(path)
    given, own = checkpoint.get("state_dict"), _weights(model.state_dict())
    if not isinstance(given, dict):
        raise UserError(f"ckpt_path={place} is not a checkpoint of a training run; name one of a run of taut.")
    given = _weights(given)
    for name in [*own, *(name for name in given if name not in own)]:
        then, now = _shape(given.get(name)), _shape(own.get(name))
        if then != now:
            raise UserError(
                f"ckpt_path={place}: its weights are of another model ({name} is {then} there, and {now} here); choose "
                "the model, prior, q, likelihood, network and latent_dim of that run."
            )
    if not all(value.isfinite().all() for value in given.values()):
        raise UserError(f"ckpt_path={place} holds weights that are not finite; name another checkpoint.")
    model.load_state_dict(given, strict=False)
    same = (checkpoint.get(type(data).__qualname__) or {}).get("digest") == data.digest
    other = "" if same else ", which had other data: any split here may hold rows that they were trained on"
    return f"training began with the weights of {path}{other} (ckpt_path)"


def _weights(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if str(name).startswith(PIECES)}


def _shape(value: Any) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else "absent"
