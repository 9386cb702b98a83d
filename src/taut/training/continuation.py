"""Whether a checkpoint is one that this run can go on from, asked before anything is written."""

from pathlib import Path

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
