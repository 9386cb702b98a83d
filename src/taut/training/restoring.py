"""What a checkpoint may put into a training: weights and states that fit, and a sentence for all else.

A seal shows that a checkpoint is whole, not that this run wrote it. Fused optimisers are kernels that trust the shapes
of their states: one of another shape ends the process.
"""

import copy
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from taut.config.checkpoint_files import weights_at
from taut.config.exit_codes import leave_if_asked
from taut.data.base import Data
from taut.errors import RunError, UserError
from taut.training.checkpoint import AtomicCheckpointIO

CONNECTOR = "checkpoint_connector.py"
"""The file of Lightning by which everything in a checkpoint reaches its owner."""
PIECES = ("joint.", "q.")
"""Where the weights of a model are; the rest of its state belongs to one training."""


def refuse_unfit(path: Path, model: nn.Module, data: Data, max_epochs: int | None) -> None:
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


def start_from(place: str, model: nn.Module, data: Data) -> str:
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


@contextmanager
def told_what_does_not_fit(checkpoint: Path | None) -> Iterator[None]:
    """Inside, an error while a checkpoint is restored becomes a sentence.

    Raises:
        UserError: Naming the checkpoint.
    """
    try:
        yield
    except (UserError, RunError):
        raise
    except Exception as error:
        leave_if_asked()
        restoring = any(frame.filename.endswith(CONNECTOR) for frame in traceback.extract_tb(error.__traceback__))
        # an error in the weights has a sentence of its own; so has what is raised while a checkpoint is written
        if checkpoint is None or not restoring or str(error).startswith("Error(s) in loading state_dict"):
            raise
        raise UserError(
            f"The checkpoint {checkpoint} does not fit this run ({type(error).__name__}: {error}); restore the files "
            "of the run, or remove it to use an older checkpoint."
        ) from error


def check_optimizer_state(optimizer: Optimizer, saved: Any) -> None:
    """Refuse the state of an optimiser whose tensors are not those that it keeps for its parameters.

    What it keeps is found by a step of a copy, with gradients of 0.

    Args:
        optimizer: Newly built.
        saved: What a checkpoint holds for it, in the form of ``Optimizer.state_dict``.

    Raises:
        UserError: Saying what does not fit.
    """
    twin = copy.deepcopy(optimizer)
    try:
        _step(twin)
    except TypeError:  # one that wants a closure, and is no kernel
        return
    parameters = [parameter for group in twin.param_groups for parameter in group["params"]]
    known = {index: twin.state.get(parameter, {}) for index, parameter in enumerate(parameters)}
    try:
        _check_places(saved, len(parameters))
        for index, states in saved["state"].items():
            _refuse_settings(known[index], states)
            _check_states(index, known[index], states)
        # a copy, since a step writes into the tensors it is given
        twin.load_state_dict(copy.deepcopy(saved))
        _step(twin)
    except UserError:
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise UserError(
            f"The checkpoint holds the state of another optimiser than this run's ({reason}); restore the files of the "
            "run, or remove the checkpoint to use an older one."
        ) from error


def _step(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()


def _check_places(saved: Mapping[str, Any], count: int) -> None:
    places = [place for group in saved["param_groups"] for place in group["params"]]
    if places != list(range(count)):
        raise ValueError(f"it is of {len(places)} parameters, and there are {count}")


def _refuse_settings(known: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Refuse settings that need a state which was not kept, as ``amsgrad`` and ``momentum`` do."""
    lacking = sorted(name for name, value in known.items() if value is not None and saved.get(name) is None)
    if lacking:
        raise UserError(
            f"resume: these settings of optimizer need a state ({', '.join(lacking)}) that the run has not kept; "
            "leave them as they were, or start a new run."
        )


def _check_states(index: int, known: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    for name, value in saved.items():
        if name not in known or isinstance(value, Tensor) != isinstance(known[name], Tensor):
            raise ValueError(f"parameter {index} has a state {name!r} of another kind")
        if isinstance(value, Tensor) and _form(value) != _form(known[name]):
            raise ValueError(
                f"state {name!r} of parameter {index} has the form {_form(value)}, expected {_form(known[name])}"
            )


def _form(value: Tensor) -> tuple[Sequence[int], Any, str]:
    # strides as well, by which a kernel walks through memory; of a single number the precision, which is not converted
    strides = value.stride() if value.layout is torch.strided else value.layout
    kind = str(value.dtype) if value.dim() == 0 else "floating" if value.is_floating_point() else "not floating"
    return tuple(value.shape), strides, kind
