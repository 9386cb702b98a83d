"""What a checkpoint may put into a training: states that fit the parameters, and a sentence for all else.

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
from torch import Tensor
from torch.optim import Optimizer

from taut.config.exit_codes import leave_if_asked
from taut.errors import RunError, UserError

CONNECTOR = "checkpoint_connector.py"
"""The file of Lightning by which everything in a checkpoint reaches its owner."""


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
