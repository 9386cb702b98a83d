"""No config builds what is not on the list, by any spelling, nesting, alias or door."""

import os
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from taut.config.check import check
from taut.config.instantiate import check_hydra, check_targets_resolved, instantiate
from taut.errors import UserError

CONF = Path(__file__).resolve().parents[2] / "conf"

NAMES = [
    "os.system",
    "os.popen",
    "os.execv",
    "posix.system",
    "nt.system",
    "subprocess.run",
    "subprocess.Popen",
    "subprocess.getoutput",
    "subprocess.check_output",
    "builtins.eval",
    "builtins.exec",
    "builtins.compile",
    "builtins.open",
    "builtins.__import__",
    "builtins.getattr",
    "logging.os.system",
    "shutil.os.system",
    "shutil.rmtree",
    "pathlib.Path.unlink",
    "timeit.timeit",
    "timeit.main",
    "pdb.run",
    "code.interact",
    "pickle.loads",
    "pickle.load",
    "_pickle.loads",
    "marshal.loads",
    "shelve.open",
    "dill.loads",
    "cloudpickle.loads",
    "joblib.load",
    "numpy.load",
    "pandas.read_pickle",
    "torch.load",
    "torch.jit.load",
    "torch.hub.load",
    "torch.package.PackageImporter",
    "torch.utils.cpp_extension.load_inline",
    "torch.nn.Module",
    "torch.nn.Module.__init__",
    "torch.nn.modules.module.torch.load",
    "torch.optim.optimizer.functools.partial",
    "torch.optim.Optimizer.__init__",
    "torch.optim.adam.torch.load",
    "torch.optim.lr_scheduler.types.FunctionType",
    "torch.optim.lr_scheduler.partial",
    "functools.partial",
    "functools.reduce",
    "operator.methodcaller",
    "operator.attrgetter",
    "typing.ForwardRef._evaluate",
    "importlib.import_module",
    "pkgutil.resolve_name",
    "runpy.run_path",
    "runpy.run_module",
    "ctypes.CDLL",
    "multiprocessing.Process",
    "threading.Thread",
    "asyncio.create_subprocess_shell",
    "pty.spawn",
    "webbrowser.open",
    "socket.socket",
    "urllib.request.urlopen",
    "hydra.utils.instantiate",
    "hydra.utils.call",
    "hydra.utils.get_method",
    "hydra._internal.instantiate._instantiate2.instantiate",
    "hydra.main",
    "yaml.unsafe_load",
    "yaml.load",
    "types.FunctionType",
    "zipimport.zipimporter",
    "site.addsitedir",
    "lightning.pytorch.callbacks.os.system",
    "lightning.pytorch.callbacks.callback.torch.load",
    "lightning.pytorch.Trainer.fit",
    "lightning.pytorch.LightningModule.load_from_checkpoint",
    "lightning.pytorch.utilities.model_helpers.os",
    "lightning.fabric.utilities.cloud_io._load",
    "lightning.pytorch.strategies.launchers.subprocess_script.subprocess.Popen",
    "taut.data.base.os.system",
    "taut.data.base.Path",
    "taut.data.base.LightningDataModule",
    "taut.data.base.hashlib.sha256",
    "taut.data.readers.fetch.os.system",
    "taut.data.readers.fetch.fetch",
    "taut.training.models.VAE.load_from_checkpoint",
    "taut.training.module.torch.load",
    "taut.config.instantiate.make",
    "taut.config.instantiate.instantiate",
    "taut.cli.main",
    "taut.cli.os.system",
    "taut.training.checkpoint.torch.load",
    "taut.commands.train.train",
    "taut.training.loggers.records.instantiate",
    "taut.training.loggers.tracker.sys.modules.get",
    "taut.model.prior.base.torch.hub.load",
    "taut.model.networks.torch.load",
    "taut.objective.base.nn.Module",
    "taut.training.loggers.records.re.compile",
    "taut.model.likelihood..os.system",
    "taut",
    "taut.",
    ".os.system",
    "os..system",
]


@pytest.fixture(scope="module")
def base():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", ["logger=csv", "callbacks=none"])
    return OmegaConf.to_container(cfg, resolve=False)


def refused(container):
    cfg = OmegaConf.create(container)

    def judge():
        check(cfg)
        check_targets_resolved(cfg)

    with pytest.raises(UserError) as caught:
        judge()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_payload_is_refused_and_never_runs(name, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused({**base, "objective": {"_target_": name, "_args_": ["touch canary"]}})
    assert not os.listdir()


def places(payload):
    return {
        "argument": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": payload},
        "positional": {"_target_": "torch.optim.Adam", "_args_": [1, payload]},
        "deep list": {"_target_": "torch.optim.Adam", "betas": [[[{"a": [payload]}]]]},
        "partial": {**payload, "_partial_": True},
        "not recursive": {"_target_": "torch.optim.Adam", "_recursive_": False, "lr": payload},
        "interpolated name": {"part": "os", "_target_": "${.part}.system", "_args_": ["touch canary"]},
        "interpolated node": "${data.payload}",
        "no name": {"_target_": None},
        "name of a list": {"_target_": ["os.system"]},
        "name with a line end": {"_target_": "torch.optim.Adam\n"},
        "name in other letters": {"_target_": "torch.optim.А"},  # noqa: RUF001 (Cyrillic)
    }


@pytest.mark.parametrize("place", places({}))
def test_payload_is_found_wherever_it_hides(place, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    payload = {"_target_": "os.system", "_args_": ["touch canary"]}
    hidden = {**base, "optimizer": places(payload)[place]}
    hidden["data"] = {**base["data"], "payload": payload} if place == "interpolated node" else base["data"]
    refused(hidden)
    assert not os.listdir()


def test_unknown_argument_names_the_nearest(base):
    cfg = OmegaConf.create({**base, "optimizer": {"_target_": "torch.optim.Adam", "_partial_": True, "beta": [0, 1]}})
    with pytest.raises(UserError, match="did you mean betas"):
        check_targets_resolved(cfg)
    cfg = OmegaConf.create({**base, "model": {**base["model"], "k_evil": 3}})
    with pytest.raises(UserError, match="did you mean k_eval"):
        check_targets_resolved(cfg)


@pytest.mark.parametrize(
    "node",
    [
        {"callbacks": {"x": {"_target_": "os.system", "command": "touch canary"}}},
        {"callbacks": {"x": {"_target_": "hydra.utils.call"}}},
        {"launcher": {"_target_": "subprocess.Popen"}},
        {"sweeper": {"_target_": "hydra_plugins.os.system"}},
        {"sweeper": {"_target_": "hydra._internal.core_plugins.basic_sweeper.os.system"}},
        {"job_logging": {"handlers": {"console": {"class": "subprocess.Popen"}}}},
        {"job_logging": {"handlers": {"console": {"()": "os.system"}}}},
        {"job_logging": {"formatters": {"simple": {"()": "os.system"}}}},
        {"job_logging": {"filters": {"x": {"()": "logging.os.system"}}}},
        {"hydra_logging": {"handlers": {"file": {"class": "logging.os.system"}}}},
        {"hydra_logging": {"handlers": {"file": {"stream": "ext://os.environ"}}}},
    ],
)
def test_hydras_own_node_builds_only_its_own(node):
    with pytest.raises(UserError, match="hydra"):
        check_hydra(node)


def test_a_config_that_lacks_an_argument_is_told_in_one_sentence(monkeypatch):
    """As ``~data.path`` leaves it; a bug inside of what is called keeps its own error."""
    node = OmegaConf.create({"_target_": "taut.data.table.Table"})
    with pytest.raises(
        UserError, match=r"^taut.data.table.Table needs 'path'; give it, or put back what was removed.$"
    ):
        instantiate(node)
    monkeypatch.setattr("taut.data.table.Table.__init__", lambda self: (lambda path: None)())
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'path'"):
        instantiate(node)
