"""Requirements of W&B online: a key, and a server that answers within seconds."""

import os
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any

import requests

from taut.errors import UserError

PATIENCE = 4.0
"""Seconds after which a server that says nothing is taken for unreachable."""


def has_key() -> bool:
    """Tell whether the environment or the user's ``.netrc`` holds an API key for W&B's server.

    Raises:
        UserError: If there is one that cannot be a key.
    """
    from wandb.errors import AuthenticationError
    from wandb.sdk.lib.wbauth.wbnetrc import read_netrc_auth

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        return read_netrc_auth(host=server()) is not None
    except AuthenticationError as error:
        raise UserError("The W&B API key in .netrc is not of the form of one; run `wandb login --relogin`.") from error


def server() -> str:
    """The address of W&B's server: that of the user's settings, or the public one."""
    import wandb
    from wandb.sdk import wandb_setup

    address = wandb_setup.singleton().settings.base_url
    wandb.teardown()  # settings are read once: those of the run are yet to come
    return address


def reachable(address: str, seconds: float = PATIENCE) -> bool:
    """Tell whether a server answers anything at all, through the user's proxies if there are any.

    Looking up a name knows no time limit of its own, so the asking is left behind if it takes too long.
    """
    answers: list[int] = []

    def ask() -> None:
        with requests.head(address, timeout=seconds) as answer:
            answers.append(answer.status_code)

    with suppress(requests.RequestException, TimeoutError):
        in_time(ask, seconds)
    return bool(answers)


def in_time(call: Callable[[], Any], seconds: float) -> None:
    """Make a call in another thread, which is left behind if it takes too long.

    Raises:
        TimeoutError: If it does.
        BaseException: What the call raises.
    """
    raised: list[BaseException] = []

    def made() -> None:
        try:
            call()
        # SystemExit as well, which a thread drops without a word
        except BaseException as error:
            raised.append(error)

    # a daemon, or Python would wait for it at exit
    calling = Thread(target=made, daemon=True)
    calling.start()
    calling.join(seconds)
    if calling.is_alive():
        raise TimeoutError(f"no answer in {seconds:g} s")
    if raised:
        raise raised[0]
