"""``taut export run=<run folder> to=<folder>``: a trained model for others, with its numbers, in files of the field.

``weights.safetensors`` are the weights that were tested, ``config.yaml`` is the config that composes the model,
``encoder.pt2`` and ``decoder.pt2`` run without taut (``torch.export``), and ``README.md`` is the model card.
"""

import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from rich.console import Console, RenderableType
from safetensors.torch import save
from torch import Tensor, nn
from torch.distributions import Distribution

from taut import __version__
from taut.config import pieces
from taut.config.overrides import told_as_run
from taut.config.program import ended
from taut.config.run_folder import config_of, read_result
from taut.errors import UserError, nearest
from taut.files import atomic_folder, read_regular
from taut.model.q.base import Amortised
from taut.report.tables.evaluation import evaluation_tables
from taut.report.tables.training import score_table
from taut.training.build import set_up_torch
from taut.training.module import LatentVariableModel
from taut.training.stored_run import Run

KEYS = ("run", "to")
HELP = """\
Write a trained model as files for others: weights, config, a model card with every number, encoder and decoder.

  taut export run=outputs/runs/<run> to=<folder>

The folder must be new. trust=[mylab] names packages whose classes the run may need.
"""
WIDTH = 80


def main(words: Sequence[str] | None = None) -> int:
    """The exit code of one command: 0, or 2 for a mistake in it."""
    asked = sys.argv[1:] if words is None else words
    if "--help" in asked or "-h" in asked:
        return ended(lambda: print(HELP, end=""))
    return ended(lambda: print(*export(**_asked(asked)), sep="\n"))


def export(run: Path, to: Path) -> list[str]:
    """Write the model of a run into a new folder, whole or not at all; what to tell the user.

    Args:
        run: The folder of the run.
        to: The new folder.

    Raises:
        UserError: If the folder is there, or the run cannot be read.
    """
    if to.exists() or to.is_symlink():
        raise UserError(f"to={to} exists; choose a folder that does not.")
    opened = Run.open(run)
    tables = _tables(opened.folder)
    set_up_torch(opened.cfg)
    model, data, about = opened.load()
    with atomic_folder(to) as folder:
        # bytes, since save_file leaves a file that only its owner can read
        weights = save(_tensors(model), metadata={"format": "pt", "taut": __version__})
        (folder / "weights.safetensors").write_bytes(weights)
        # as it is written there: what it reads from the environment stays a name
        (folder / "config.yaml").write_bytes(read_regular(config_of(opened.folder)))
        left_out = _programs(model, data.rows_of("test")[:2], folder)
        (folder / "README.md").write_text(_card(opened, model, about, tables, left_out), encoding="utf-8")
    return [*(f"{name} is left out: {why}" for name, why in left_out.items()), str(to)]


def _asked(words: Sequence[str]) -> dict[str, Path]:
    words, _ = pieces.taken(words)
    given = {}
    for word in words:
        name, equals, value = word.partition("=")
        if told := told_as_run(word):
            raise UserError(f"{word} is not of the form key=value{told}.")
        if name not in KEYS:
            raise UserError(f"There is no key {name} of taut export; {nearest(name, KEYS)}")
        if not equals or not value:
            raise UserError(f"{name} needs a value: {name}=<folder>.")
        given[name] = Path(value).expanduser()
    for name in KEYS:
        if name not in given:
            raise UserError(f"{name}= is missing: taut export run=<run folder> to=<new folder>.")
    return given


def _tensors(model: LatentVariableModel) -> dict[str, Tensor]:
    # copies: safetensors takes no tensors that share their memory or are views of others
    return {name: value.detach().clone().contiguous() for name, value in model.state_dict().items()}


class Moments(nn.Module):
    """Mean and standard deviation of a distribution: of q(z | x) from x, or of p(x | z) from z.

    Args:
        conditional: Gives the distribution, q or the likelihood.
    """

    def __init__(self, conditional: Callable[[Tensor], Distribution]) -> None:
        super().__init__()
        self.conditional = conditional

    def forward(self, given: Float[Tensor, "b *given"]) -> tuple[Tensor, Tensor]:
        """Both for every row."""
        distribution = self.conditional(given)
        return distribution.mean, distribution.stddev


def _programs(model: LatentVariableModel, x: Tensor, folder: Path) -> dict[str, str]:
    """Write encoder and decoder; those that have no such form, and why."""
    left_out = {}
    z = model.joint.prior().sample((len(x),))
    parts: dict[str, tuple[nn.Module, Tensor]] = {"decoder.pt2": (Moments(model.joint.likelihood), z)}
    if isinstance(model.q, Amortised):
        parts["encoder.pt2"] = (Moments(model.q), x)
    else:
        left_out["encoder.pt2"] = f"q={type(model.q).__name__.lower()} has no network."
    for name, (part, example) in parts.items():
        try:
            # of any number of rows
            rows = ({0: torch.export.Dim("rows", min=1)},)
            with torch.no_grad():
                part(example)  # what has no moments says so here, and not in the words of a tracer
                program = torch.export.export(part.eval(), (example,), dynamic_shapes=rows)
            torch.export.save(program, folder / name)
        except NotImplementedError:
            left_out[name] = f"{_named(model, name)} has no mean and standard deviation in closed form."
        # whatever torch raises, it is that this part cannot be traced: the weights are worth having
        except Exception as error:
            why = next(iter(str(error).splitlines()), "") or type(error).__name__
            left_out[name] = f"torch.export refuses it ({type(error).__name__}: {why})."
    return left_out


def _named(model: LatentVariableModel, program: str) -> str:
    """The pieces whose distribution a program gives, as words of the command line."""
    if program == "decoder.pt2":
        return f"likelihood={type(model.joint.likelihood).__name__.lower()}"
    return f"q={type(model.q).__name__.lower()} under prior={type(model.joint.prior).__name__.lower()}"


def _tables(folder: Path) -> list[str]:
    """What the commands have printed of the run and of its evaluations, as text."""
    found = []
    for place, draw in ((folder, lambda result: [score_table(result)]), *_evaluations(folder)):
        result = read_result(place)
        if not result:
            continue
        try:
            found.append(_text(draw(result)))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise UserError(f"{place}/result.json is damaged; restore it, or have it made again.") from error
    return found


def _evaluations(folder: Path) -> list[tuple[Path, Callable[[Any], list[RenderableType]]]]:
    return [(path.parent, evaluation_tables) for path in sorted(folder.glob("evaluation*/result.json"))]


def _text(tables: Sequence[RenderableType]) -> str:
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None)
    for table in tables:
        console.print(table)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()).strip("\n")  # type: ignore[attr-defined]


def _card(
    run: Run, model: LatentVariableModel, about: dict[str, Any], tables: list[str], left_out: dict[str, str]
) -> str:
    result = read_result(run.folder)
    parameters = sum(p.numel() for p in model.parameters())
    facts = {
        **run.choices,
        "binarisation": run.binarisation,
        "parameters": f"{parameters:,}",
        "weights": f"{about['file']}, epoch {about['epoch']}, step {about['step']}",
        "data (SHA-256)": about["data_digest"],
        "versions": ", ".join(f"{name} {version}" for name, version in result.get("versions", {}).items()),
    }
    lines = ["---", "library_name: taut", "tags: [latent-variable-model]", "---", "", f"# {run.name}", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items() if value), ""]
    lines += [
        "## Numbers",
        "",
        "In nats per datum, each with its kind and its standard errors, as taut printed them.",
        "",
    ]
    for table in tables:
        lines += ["```text", table, "```", ""]
    if not tables:
        lines += ["The run has not been tested.", ""]
    lines += ["## Files", "", *_files(model, left_out), "", _use(model)]
    return "\n".join(lines)


FILES = {
    "weights.safetensors": "the weights, by the names of the model's `state_dict`",
    "config.yaml": "the config that composes the model, for `taut train` and `taut.training.build`",
    "encoder.pt2": "x to the mean and the standard deviation of q(z given x); x has shape {x}, float32{scale}",
    "decoder.pt2": "z to the mean and the standard deviation of p(x given z); z has shape {z}, float64",
}


def _files(model: LatentVariableModel, left_out: dict[str, str]) -> list[str]:
    """A line for each file, with the shapes and types that programs take: they refuse others, but take any scale."""
    likelihood = model.joint.likelihood
    scale = ", of zeros and ones (grey pixels as draws: `torch.bernoulli(grey)`)" if likelihood.binary else ""
    takes = {"x": ["n", *likelihood.x_shape], "z": ["n", *model.joint.prior.z_shape], "scale": scale}
    takes = {name: str(value).replace("'", "") for name, value in takes.items()}
    return [
        f"- `{name}`: {f'left out, since {left_out[name]}' if name in left_out else said.format(**takes)}"
        for name, said in FILES.items()
    ]


def _use(model: LatentVariableModel) -> str:
    x_shape = ", ".join(map(str, model.joint.likelihood.x_shape))
    return f"""```python
import torch  # no taut needed

x = torch.zeros(3, {x_shape})  # three rows; put yours here
mean, deviation = torch.export.load("encoder.pt2").module()(x)
x_mean, x_deviation = torch.export.load("decoder.pt2").module()(mean)
```
"""
