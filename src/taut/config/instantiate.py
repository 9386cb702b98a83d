"""Objects that a config may build: a positive list of names, checked before and after the import they cause.

The list is that of taut, and the packages that the user has named (:mod:`taut.config.pieces`).
"""

import inspect
import pkgutil
import re
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from traceback import walk_tb
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.errors import InstantiationException
from hydra.utils import instantiate as hydra_instantiate
from omegaconf import DictConfig, OmegaConf

from taut.config import pieces
from taut.config.releases import LISTED
from taut.errors import UserError

T = TypeVar("T")

PARTS = r"data|evidence|model|objective|training\.(?:callbacks|loggers|models|schedulers|strategies)"
ACTIVATIONS = "CELU|ELU|GELU|Hardswish|Hardtanh|Identity|LeakyReLU|Mish|ReLU|ReLU6|SELU|Sigmoid|SiLU|Softplus|Tanh"
LIGHTNING = "callbacks|loggers|profilers|strategies"

# ASCII, here and below: \w would else match letters that only look like those of a name
SPELLED = re.compile(
    rf"taut\.(?:{PARTS})(?:\.[a-z]\w*)*\.[A-Za-z]\w*"
    r"|torch\.optim\.(?:lr_scheduler\.)?[A-Z]\w*"
    rf"|torch\.nn\.(?:{ACTIVATIONS})"
    rf"|lightning\.pytorch\.(?:Trainer|(?:{LIGHTNING})\.[A-Z]\w*)",
    re.ASCII,
)
CLASSES = re.compile(
    rf"taut\.(?:{PARTS})(?:\.\w+)*"
    r"|torch\.optim(?:\.\w+)*|torch\.nn\.modules\.(?:activation|linear)"
    rf"|lightning\.pytorch\.(?:trainer\.trainer|(?:{LIGHTNING})(?:\.\w+)*)",
    re.ASCII,
)
FUNCTIONS = re.compile(r"taut\.training\.(?:callbacks|loggers|schedulers)(?:\.\w+)*", re.ASCII)
HYDRA = re.compile(
    r"hydra_plugins\.\w+\.\w+\.[A-Z]\w*"
    r"|hydra\.experimental\.callbacks\.(?:LogJobReturnCallback|PickleJobInfoCallback)",
    re.ASCII,
)
BASIC = ("launcher", "sweeper")
HANDLERS = re.compile(r"logging\.(?:StreamHandler|FileHandler|NullHandler|Formatter)|colorlog\.ColoredFormatter")
REFERENCES = re.compile(r"(?:ext|cfg)://(?!sys\.std(?:out|err)$)")

OURS = (
    "the parts of taut, torch.optim, the activations of torch.nn, "
    "and Lightning's Trainer, callbacks, loggers, profilers and strategies"
)


def check_targets(container: Any) -> None:
    """Refuse every ``_target_`` in plain values whose name is neither on the list nor of a trusted package.

    Raises:
        NeedsTrust: If the user could trust the packages of all of them.
        UserError: Naming the key and the target.
    """
    strange = {
        key: node["_target_"]
        for key, node in nodes(container)
        if not _matches(SPELLED, node["_target_"]) and not pieces.covers(node["_target_"])
    }
    for key, target in strange.items():
        if not pieces.could_cover(target):
            _refuse(key, target, OURS)
    if strange:
        key, target = next(iter(strange.items()))
        packages = list(dict.fromkeys(map(pieces.package_of, strange.values())))
        raise pieces.NeedsTrust(packages, f"{key}._target_={target}")


def check_targets_resolved(cfg: DictConfig) -> None:
    """Import every target and refuse what turns out to live elsewhere, or does not take the arguments it is given.

    A listed name can be an alias (``taut.data.base.os.system``): what counts is the module the object says it is
    from, and that it is a class, or a function of a trusted package or of the few modules of taut whose functions are
    factories.

    Arguments are held against the types that constructors are annotated with.

    Raises:
        UserError: Naming the key and what it leads to.
    """
    container = OmegaConf.to_container(cfg, resolve=True)
    check_targets(container)
    for key, node in nodes(container):
        _check_arguments(key, node, _located(key, node["_target_"]))


def check_hydra(container: Any) -> None:
    """Refuse launchers, sweepers, Hydra callbacks and log handlers that are not Hydra's or logging's own.

    Raises:
        UserError: Naming the key and the target.
    """
    for key, node in nodes(container):
        if node["_target_"] not in map(hydras_basic, BASIC) and not _matches(HYDRA, node["_target_"]):
            _refuse(f"hydra.{key}", node["_target_"], "Hydra's own launchers, sweepers and callbacks")
    for part in ("job_logging", "hydra_logging"):
        for key, value in _leaves(container.get(part), f"hydra.{part}"):
            factory = key.endswith((".class", ".()")) and not _matches(HANDLERS, value)
            if factory or (isinstance(value, str) and REFERENCES.match(value)):
                _refuse(key, value, "logging's own handlers on standard output, standard error or a file")


@cache
def hydras_basic(part: str) -> str:
    """The launcher or sweeper that Hydra takes where none is chosen, by the name that its own config has for it."""
    Plugins.instance()  # which stores that config
    return str(ConfigStore.instance().load(f"hydra/{part}/basic.yaml").node["_target_"])


def nodes(value: Any, key: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping with a ``_target_`` and its dotted key, however deep in mappings and lists."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield key, value
        for name, part in value.items():
            yield from nodes(part, _join(key, name))
    elif isinstance(value, list):
        for i, part in enumerate(value):
            yield from nodes(part, f"{key}[{i}]")


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _leaves(part, _join(key, name))
    elif isinstance(value, list):
        for part in value:
            yield from _leaves(part, key)
    else:
        yield key, value


def _located(key: str, target: str) -> Any:
    own = pieces.covers(target)
    try:
        found = _imported(target) if own else pkgutil.resolve_name(target)
    except (ImportError, AttributeError) as error:
        module, _, name = target.rpartition(".")
        package = pieces.package_of(target)
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            # in the user's file a package is trusted wherever it is installed, and looked for nowhere else
            raise UserError(
                f"{key}._target_={target}: the package {package} is not installed; install it, or add "
                f"trust=[{package}] in the folder where it is."
            ) from error
        # where a module of the user's own is there, and what it imports is not
        if own and isinstance(error, ImportError) and not f"{target}.".startswith(f"{error.name}."):
            raise UserError(f"{key}._target_={target} cannot be imported: {str(error).splitlines()[0]}.") from error
        raise UserError(
            f"{key}._target_={target} does not exist: {module} has no {name}; check its spelling."
        ) from error
    home, name = getattr(found, "__module__", None), getattr(found, "__qualname__", ".")
    # not the name that was written: a module hands out whatever it imports, os and subprocess among it
    ours = (inspect.isclass(found) and _matches(CLASSES, home)) or (
        inspect.isfunction(found) and _matches(FUNCTIONS, home)
    )
    allowed = ours or (own and (inspect.isclass(found) or inspect.isfunction(found)) and pieces.holds(home))
    # a dot: a method or a nested class, which is no part by itself
    if not allowed or "." in name:
        _refuse(key, f"{target} (which is {home}.{name})", OURS)
    return found


def _imported(target: str) -> Any:
    # not pkgutil's, which hides that a module could not be imported behind the name that it then lacks
    module, _, name = target.rpartition(".")
    return getattr(import_module(module), name)


def _check_arguments(key: str, node: dict[str, Any], found: Any) -> None:
    from taut.config.argument_types import check_type  # pydantic; --help and completion do without

    known, others = _parameters(found)
    for name, value in node.items():
        if name.startswith("_") and name.endswith("_"):
            continue
        if name in known:
            # an object is built by its own target, and judged there; the shape is filled in from the data
            if not any(True for _ in nodes(value)) and not (name == "x_shape" and value is None):
                check_type(_join(key, name), value, known[name].annotation)
        elif not others:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(sorted(known))}."
            raise UserError(f"{_join(key, name)} is not an argument of {node['_target_']}; {hint}")


def arguments(target: str) -> tuple[dict[str, Any], bool]:
    """The arguments of a class of ours by name with their types, and whether there may be others.

    Raises:
        UserError: If it may not be built from a config, or does not exist.
    """
    check_targets({"it": {"_target_": target}})
    known, others = _parameters(_located("it", target))
    return {name: parameter.annotation for name, parameter in known.items()}, others


def default_of(target: str, name: str) -> Any:
    """The default of an argument of a class of ours; ``inspect.Parameter.empty`` where it has none.

    Raises:
        UserError: If the class may not be built from a config, or does not exist.
    """
    check_targets({"it": {"_target_": target}})
    parameter = _parameters(_located("it", target))[0].get(name)
    return inspect.Parameter.empty if parameter is None else parameter.default


def _parameters(found: Any) -> tuple[dict[str, inspect.Parameter], bool]:
    """Arguments by name, and whether there may be others; ``**rest`` in a class of ours is its bases'."""
    known: dict[str, inspect.Parameter] = {}
    for owner in found.__mro__ if inspect.isclass(found) else [found]:
        parameters = _signature(owner.__init__ if inspect.isclass(owner) else owner)
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"]
        known = {p.name: p for p in named} | known
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return known, False
        if not (inspect.isclass(owner) and (owner.__module__.startswith("taut.") or pieces.holds(owner.__module__))):
            break
    return known, True


def takes(node: DictConfig, name: str) -> bool:
    """Whether the class of Lightning's, or of the user's own, that a node names has an argument of this name."""
    target = str(node._target_)
    return not target.startswith("taut.") and name in _parameters(_located("logger", target))[0]


def _signature(function: Any) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function, eval_str=True).parameters.values())
    # an annotation names what its module imports for type checkers alone, or is no expression
    except (NameError, AttributeError, TypeError, SyntaxError):
        return list(inspect.signature(function).parameters.values())


def _matches(pattern: re.Pattern[str], name: Any) -> bool:
    return isinstance(name, str) and pattern.fullmatch(name) is not None


def _refuse(key: str, target: Any, allowed: str) -> None:
    raise UserError(f"{key}: {target!r} may not be built from a config; allowed are {allowed}.")


def _join(key: str, name: Any) -> str:
    return f"{key}.{name}" if key else str(name)


def instantiate(node: DictConfig, **known: Any) -> Any:
    """The object a node describes, given plain containers and whatever only the program knows.

    Raises:
        UserError: As the object's own constructor said it, without Hydra's wrapping, or where one of torch or
            Lightning refused its arguments.
    """
    try:
        # plain containers: torch, Lightning and pickled checkpoints do not take OmegaConf's
        return hydra_instantiate(node, **known, _convert_="all", **LISTED)
    except Exception as error:
        # Hydra 1.3 wraps what it meets, and 1.4 adds a note to it
        cause = error.__cause__ if isinstance(error, InstantiationException) else error
        if cause is None:
            raise
        if lacking := _lacking(cause):
            raise UserError(f"{node._target_} needs {lacking}; give it, or put back what was removed.") from cause
        # with its traceback, which whoever writes a piece needs
        if isinstance(cause, UserError) or str(node._target_).startswith("taut.") or pieces.covers(node._target_):
            raise cause from None
        reason = next(iter(str(cause).splitlines()), "") or type(cause).__name__
        # the key of the node that failed is on a line of its own
        said = "\n".join([str(error), *getattr(error, "__notes__", ())])
        where = re.search(r"full_key: (.+)$", said, re.MULTILINE)
        raise UserError(f"{where[1] if where else node._target_} cannot be built: {reason.rstrip('.')}.") from cause


def _lacking(error: BaseException) -> str | None:
    """The arguments that a config has not given to what it names, if it is that which failed."""
    said = re.search(r"missing \d+ required [\w -]+: (.+)$", str(error)) if isinstance(error, TypeError) else None
    *_, (frame, _) = walk_tb(error.__traceback__)
    # the call itself, not one inside of what was called, which would be a bug there
    return said[1] if said and str(frame.f_globals.get("__name__")).startswith("hydra.") else None


def instance(node: DictConfig, kind: type[T], **known: Any) -> T:
    """The object a node describes, which must be of a kind.

    Raises:
        UserError: If it is of another, or as ``instantiate`` does.
    """
    built = instantiate(node, **known)
    if not isinstance(built, kind):
        raise UserError(
            f"{node._target_} builds a {type(built).__name__} and no "
            f"{kind.__name__}; derive it from {kind.__module__}.{kind.__name__}."
        )
    return built
