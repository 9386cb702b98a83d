"""A run, read back from its folder: its config, its data, its trained model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from taut import __version__
from taut.config.aliases import current_targets
from taut.config.check import check
from taut.config.data_paths import located
from taut.config.instantiate import check_targets_resolved
from taut.config.logger_keys import GROUP, without_others
from taut.config.pieces import NeedsTrust, trusting
from taut.config.plain_yaml import read_config, read_values
from taut.config.program import typed
from taut.config.run_folder import BEST, CHECKPOINTS, CHOICES, choice_made, config_of, read_result, refuse_other_folder
from taut.data.base import Data
from taut.errors import UserError
from taut.training import loggers
from taut.training.build import build_data, build_model
from taut.training.checkpoint import AtomicCheckpointIO, newest_good
from taut.training.module import LatentVariableModel

GROUPS = ("model", "data", "prior", "q", "likelihood", "objective")


@dataclass(frozen=True)
class Run:
    """The folder of a run.

    Args:
        folder: Where it is, absolute.
        cfg: Its config, with what continuations changed.
        choices: What it is made of, in the words of the command line.
        told: Keys by which the user said where its data are now.
        weights: The checkpoint that the user named; the best by default.
    """

    folder: Path
    cfg: DictConfig
    choices: dict[str, str]
    told: tuple[str, ...] = ()
    weights: Path | None = None

    @classmethod
    def open(
        cls,
        folder: Path,
        told: Mapping[str, str] | None = None,
        said: str | None = None,
        trust: str | Sequence[str] = (),
    ) -> "Run":
        """Read a run's config, and find its data; its classes are checked before anything is built.

        Args:
            folder: Where it is.
            told: Where the user says that files of the run are now, by key, e.g. ``data.path``.
            said: How the user named the folder; on a command line ``run=<folder>``.
            trust: Packages whose classes it may name, beside those that the user trusts anyway.

        Raises:
            UserError: If it is not the folder of a run, or of another version, or names classes that may not be built,
                or its data are not found.
        """
        told = told or {}
        folder = folder.expanduser().resolve()
        refuse_other_folder(folder, said or f"run={folder}")
        stored = current_targets(OmegaConf.to_container(read_config(config_of(folder))))
        cfg = OmegaConf.create({**stored, GROUP: without_others(stored[GROUP])} if GROUP in stored else stored)
        assert isinstance(cfg, DictConfig)
        for name, place in {**told, **located(folder, cfg, told)}.items():
            group, _, leaf = name.partition(".")
            if leaf not in (cfg.get(group) or {}):
                raise UserError(f"{name}={place}: {folder.name} reads no such file or folder; leave it out.")
            OmegaConf.update(cfg, name, str(Path(place).expanduser().absolute()))
        with trusting(trust):
            _check(cfg, folder)
        return cls(folder, cfg, _choices(folder), tuple(told))

    @property
    def name(self) -> str:
        """The run in one line: model, data, binarisation, mask, prior, q, k and seed."""
        return loggers.name_of(self.choices, self.cfg)

    @property
    def binarisation(self) -> str:
        """The way its pixels were made binary, or that they were dequantised."""
        return loggers.preparation(self.cfg)

    @property
    def checkpoint(self) -> Path:
        """The weights of the best validation bound; the newest intact ones of a run that was stopped before any.

        Raises:
            UserError: If there is none.
        """
        if self.weights is not None:
            return self.weights
        best = self.folder / BEST
        checkpoint = best if best.exists() else newest_good(self.folder / CHECKPOINTS)
        if checkpoint is None:
            raise UserError(
                f"{self.folder} holds no checkpoint in {CHECKPOINTS}/; let the run train for an epoch first "
                f"({typed('train')} resume=<run folder>)."
            )
        return checkpoint

    @property
    def precision(self) -> torch.dtype:
        """What the model computes in: the default dtype to build it under."""
        return torch.float64 if str(self.cfg.trainer.precision).startswith("64") else torch.float32

    def load(self, checkpoint: Path | None = None) -> tuple[LatentVariableModel, Data, dict[str, Any]]:
        """The trained model in evaluation mode, its data, and what the checkpoint says of itself.

        Args:
            checkpoint: One of the run; by default the best of them.

        Raises:
            UserError: If the checkpoint is damaged or of another version, or the data are not those of the run and the
                user has not said that they are to be taken.
        """
        path = checkpoint or self.checkpoint
        content = AtomicCheckpointIO().load_checkpoint(path)
        # first: of another version, the checks below would blame the files instead
        self._refuse_other_version(str(content.get("taut_version", __version__)))
        if not {"state_dict", "epoch", "global_step"} <= content.keys():
            raise UserError(f"{path} is not a checkpoint of a training run; restore the files of {self.folder.name}.")
        data = build_data(self.cfg)
        if type(data).__qualname__ not in content:
            raise UserError(f"{self.folder.name} was trained on other data than its .hydra says; restore its files.")
        digest = self._restore(data, content, path)
        model = build_model(self.cfg, data)
        try:
            model.load_state_dict(content["state_dict"])
        # TypeError and AttributeError: no tensors by name
        except (RuntimeError, TypeError, AttributeError) as error:
            if digest != data.digest:
                raise UserError(
                    f"{', '.join(self.told)}: these data, of shape {list(data.x_shape)}, do not fit the model of "
                    f"{self.folder.name}; give those that it was trained on, or others of their shape."
                ) from error
            raise UserError(
                f"The checkpoint {path} does not fit the model that {self.folder.name}/.hydra describes; restore the "
                "files of the run, or use the version that wrote them."
            ) from error
        # a seal proves that the file is whole, not that its numbers are
        if not all(value.isfinite().all() for value in model.parameters()):
            raise UserError(
                f"{path} holds weights that are not finite: the run diverged; train it anew with a lower optimizer.lr."
            )
        about = {"file": path.name, "epoch": content["epoch"], "step": content["global_step"]}
        about |= {"data_digest": digest}
        return model.eval().requires_grad_(False), data, about

    def _restore(self, data: Data, checkpoint: dict[str, Any], path: Path) -> str:
        """Digest of the data of the training; those at hand must have it, unless the user names others."""
        try:
            state = checkpoint[type(data).__qualname__]
            if not self.told:
                data.load_state_dict(state)
            return str(state["digest"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path} does not say what data it was trained on; restore the file.") from error

    def _refuse_other_version(self, version: str) -> None:
        if version.split(".")[:2] != __version__.split(".")[:2]:
            raise UserError(
                f"{self.folder.name} was trained by taut {version} and this is taut {__version__}; evaluate it with "
                f"the version that trained it (pip install taut=={version}), or train it anew."
            )


def _check(cfg: DictConfig, folder: Path) -> None:
    try:
        check(cfg)
        check_targets_resolved(cfg)
    except NeedsTrust as error:
        raise error.of_run(folder.name) from error
    except UserError as error:
        version = _written_by(folder)
        if version != __version__:
            raise UserError(
                f"{folder.name} was made by taut {version}, and this is taut {__version__}: {error}"
            ) from error
        raise


def _written_by(folder: Path) -> str:
    try:
        return str(read_result(folder)["versions"]["taut"])
    except (KeyError, TypeError):
        return __version__


def _choices(folder: Path) -> dict[str, str]:
    path = folder / CHOICES
    try:
        hydra = read_values(path)["hydra"]
        chosen, words = hydra["runtime"]["choices"], tuple(map(str, hydra.get("overrides", {}).get("task", ())))
        return {group: choice_made(group, str(chosen[group]), words) for group in GROUPS}
    except (UserError, KeyError, TypeError) as error:
        raise UserError(f"{path} is missing or damaged; it tells what the run is made of.") from error
