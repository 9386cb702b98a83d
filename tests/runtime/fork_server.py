"""Runs ``train_with_fault.py`` in forks of one process that has imported everything: a line in, pid and exit code out.

Each fork leads a process group of its own, and all it starts can be told by a word in the environment.
"""

import json
import os
import sys
from pathlib import Path

import torch
from runtime.train_with_fault import CONF, strike

import taut.commands.train  # noqa: F401 (imported once for all forks)
from taut.cli import main

torch.set_num_threads(1)
print("ready", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if child == 0:
        os.setsid()
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(request["folder"])
        os.environ |= request["environ"]
        sys.argv = [str(Path(__file__).with_name("train_with_fault.py")), *request["words"]]
        if "FAULT" in os.environ:
            strike(os.environ["FAULT"])
        code = main("train", CONF)
        sys.stdout.flush()
        os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
