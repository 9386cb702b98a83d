import os
import time

import joblib
import pytest

from taut.runtime import threads
from taut.runtime.threads import Moment


@pytest.mark.parametrize(
    ("operations", "most", "count"),
    [(0.0, 8, 1), (2e8, 64, 1), (2.5e8, 64, 2), (4e8, 64, 2), (7.6e8, 64, 4), (6.3e9, 64, 32), (6.3e9, 2, 2)],
)
def test_a_thread_for_each_fifth_of_a_gigaflop(operations, most, count):
    assert threads.of_step(operations, most) == count


def test_cores_are_those_that_joblib_may_use(monkeypatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 3)  # of 64, by a container's quota
    assert threads.cores() == 3


# 4 cores, of which this process may use so many, and 10 s in which all computed so much and this process so much
@pytest.mark.parametrize(
    ("may_use", "machine", "own", "turns"),
    [
        (4, 12.0, 12.0, "10000"),  # nobody else
        (4, 14.0, 12.0, "10000"),  # a fifth of a core
        (4, 22.0, 12.0, "1000"),  # a whole one
        (2, 22.0, 12.0, "10000"),  # one of those that this process has no use for
        (2, 42.0, 12.0, "1000"),  # three of four
    ],
)
def test_threads_spin_long_only_where_nobody_wants_the_cores(may_use, machine, own, turns, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(threads, "cores", lambda: may_use)
    monkeypatch.setattr(Moment, "now", lambda: Moment(110.0, 1000.0 + machine, 5.0 + own))
    assert threads.turns(Moment(100.0, 1000.0, 5.0)) == turns


def test_a_system_that_does_not_tell_is_taken_for_busy(monkeypatch, tmp_path):
    before = Moment(Moment.now().at - 1.0, 0.0, 0.0)
    monkeypatch.setattr(threads, "STAT", tmp_path / "none")
    assert threads.turns(before) == "1000"
    assert threads.turns(Moment(0.0, None, 0.0)) == "1000"


def test_too_short_a_look_counts_as_busy(monkeypatch):
    monkeypatch.setattr(Moment, "now", lambda: Moment(100.05, 1000.0, 5.0))
    assert threads.turns(Moment(100.0, 1000.0, 5.0)) == "1000"


@pytest.mark.parametrize(("name", "value"), [("GOMP_SPINCOUNT", "7"), ("OMP_WAIT_POLICY", "ACTIVE")])
def test_the_environment_wins(name, value, monkeypatch):
    for variable in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, value)
    before = dict(os.environ)
    threads.set_wait(Moment.now())
    assert dict(os.environ) == before


def test_waiting_is_settled_once(monkeypatch):
    for variable in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(variable, raising=False)
    threads.set_wait(Moment.now())
    assert (os.environ["OMP_WAIT_POLICY"], os.environ["GOMP_SPINCOUNT"]) == ("PASSIVE", "1000")


def test_what_a_process_computes_the_machine_computes():
    before, end = Moment.now(), time.process_time() + 0.3
    while time.process_time() < end:
        pass
    now = Moment.now()
    assert now.own - before.own >= 0.27
    assert now.machine - before.machine >= 0.27
