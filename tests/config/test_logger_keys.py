"""Several loggers in one run, and words that leave the name of the logger out."""

import pytest
from hydra import compose, initialize_config_dir
from pieces import CONF

from taut.config.check import check
from taut.config.logger_keys import logger_nodes, with_names
from taut.config.overrides import merged
from taut.errors import UserError


@pytest.fixture
def composed():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda words: compose("train", words)


@pytest.mark.parametrize(
    ("word", "names"),
    {
        "logger=wandb": ["wandb"],
        "logger=[wandb,tensorboard]": ["wandb", "tensorboard"],
        "logger=[csv,mlflow]": ["mlflow"],
        "logger=csv": [],
        "logger=[]": [],
        "logger.wandb=null": [],
    }.items(),
)
def test_a_run_has_as_many_loggers_as_are_chosen(composed, word, names):
    cfg = composed([word])
    check(cfg)
    assert list(logger_nodes(cfg.logger)) == names


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["logger.mode=online"], ["logger.wandb.mode=online"]),
        (["logger.mode=offline,online"], ["logger.wandb.mode=offline,online"]),
        (["logger.mod=online"], ["logger.wandb.mod=online"]),
        (["logger=[wandb,mlflow]", "logger.mode=online"], ["logger=[wandb,mlflow]", "logger.wandb.mode=online"]),
        (["logger.tracking_uri=x", "logger=mlflow"], ["logger.mlflow.tracking_uri=x", "logger=mlflow"]),
        (["~logger.tags"], ["~logger.wandb.tags"]),
        (["++logger.tags=[a]"], ["++logger.wandb.tags=[a]"]),
        (["logger.wandb.mode=online"], ["logger.wandb.mode=online"]),
        (["+logger.mine={_target_: a.B}"], ["+logger.mine={_target_: a.B}"]),
        (["logger=csv", "logger.mode=online"], ["logger=csv", "logger.mode=online"]),
        (["k=3"], ["k=3"]),
    ],
)
def test_the_name_that_was_left_out_is_that_of_the_only_logger_it_can_mean(composed, words, named):
    assert with_names(words, composed) == named


def test_a_key_of_several_loggers_needs_the_name():
    both = {"logger": {"wandb": {"tags": None}, "mine": {"tags": None, "dir": None}}}
    with pytest.raises(UserError) as refused:
        with_names(["logger.tags=[a]"], lambda words: both)
    assert str(refused.value) == (
        "logger.tags=[a] could mean several loggers; write logger.wandb.tags=[a] or logger.mine.tags=[a]."
    )


def test_a_logger_without_a_name_keeps_its_keys():
    flat = {"logger": {"_target_": "lightning.pytorch.loggers.CSVLogger", "name": "x"}}
    assert with_names(["logger.name=y"], lambda words: flat) == ["logger.name=y"]
    assert logger_nodes(flat["logger"]) == {"logger": flat["logger"]}


def test_a_run_that_goes_on_with_other_loggers_leaves_the_keys_of_the_earlier_ones_behind():
    stored = ["k=3", "logger.mode=online", "logger.wandb.tags=[a]"]
    assert merged(stored, ["logger=mlflow", "logger.tracking_uri=x"]) == [
        "k=3",
        "logger=mlflow",
        "logger.tracking_uri=x",
    ]
    assert merged(stored, ["k=5"]) == [*stored[1:], "k=5"]


def test_what_is_no_logger_is_refused_by_its_name(composed):
    with pytest.raises(UserError, match=r"^logger.wandb must be what a file of conf/logger describes, got 3"):
        check(composed(["logger.wandb=3"]))
    cfg = composed([])
    cfg.logger = 3
    with pytest.raises(UserError, match=r"^logger must be a group of keys, got 3"):
        check(cfg)
