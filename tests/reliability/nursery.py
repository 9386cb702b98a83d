"""Runs commands in forks of one process that has imported everything: a line in, a pid and an exit code out."""

import json
import os
import sys
from pathlib import Path

import torch

import taut.commands.train  # noqa: F401 (imported once for all forks)
from taut.cli import main

CONF = Path(__file__).resolve().parents[2] / "conf"

torch.set_num_threads(1)
print("ready", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if child == 0:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(request["folder"])
        sys.argv = ["train.py", *request["words"]]
        code = main("train", CONF, "taut.commands.train:train")
        sys.stdout.flush()
        os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
