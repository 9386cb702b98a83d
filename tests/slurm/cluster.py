"""A Slurm of two nodes on the loopback of this machine, real but for its size.

``python tests/slurm/cluster.py`` starts one, says how to use it, and ends it with Ctrl-C. Debian's packages are
``slurmctld slurmd slurm-client munge``; none of their services is used, and nothing outside a temporary folder.
"""

import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo", "setpriv")
WHERE = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
CONF = """\
ClusterName=taut
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
# what is requeued waits until its credential has expired: two minutes, if not told otherwise
AuthInfo=socket={folder}/munge.socket,cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1
KillWait=15
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# the first has a name that resolves, for the processes of one run find one another by it
NodeName={host} NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=16 RealMemory=64000
NodeName=second NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=64000
PartitionName=cpu Nodes={host} Default=YES PreemptMode=OFF
PartitionName=low Nodes=second PriorityTier=1 GraceTime=5
PartitionName=high Nodes=second PriorityTier=2 PreemptMode=OFF
"""


def missing() -> str:
    """Why there can be no cluster here; empty if there can."""
    lacking = [name for name in PROGRAMS if shutil.which(name, path=WHERE) is None]
    if lacking:
        return f"Slurm is not installed: there is no {lacking[0]}"
    return "" if os.getuid() == 0 else "Slurm's services start each task as its user, which only root may"


class Cluster:
    """Slurm's services, each a child of this process that ends with it.

    A context manager: the cluster takes jobs inside.
    """

    def __enter__(self) -> "Cluster":
        # not pytest's folder: the path of a socket has 108 characters at most
        self.folder = Path(mkdtemp(prefix="slurm-"))
        (self.folder / "state").mkdir()
        (self.folder / "spool").mkdir()
        self.host = socket.gethostname()
        text = CONF.format(folder=self.folder, ports=_free_ports(3), host=self.host)
        (self.folder / "slurm.conf").write_text(text)
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self.services: list[subprocess.Popen[bytes]] = []
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(subprocess.SubprocessError):
            self.says("scancel", "--user=root")
            self._wait(lambda: not self.says("squeue", "--noheader"))
        for service in reversed(self.services):
            service.terminate()
        for service in self.services:
            with suppress(subprocess.TimeoutExpired):
                service.wait(10)
            service.kill()
            service.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def says(self, *words: str) -> str:
        """What a command prints."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=30)
        if done.returncode:
            raise subprocess.SubprocessError(f"{' '.join(words)}: {done.stderr}")
        return done.stdout.strip()

    def _start(self) -> None:
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
        places = {"socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log", "seed-file": "seed"}
        words = [f"--{option}={self.folder / name}" for option, name in places.items()]
        # --force: the folder of all temporary files may be written by everybody
        self._serve("munged", "--foreground", "--force", f"--key-file={key}", *words)
        self._wait((self.folder / "munge.socket").exists)
        self._serve("slurmctld", "-D")
        for node in (self.host, "second"):
            self._serve("slurmd", "-D", "-N", node)
        self._wait(lambda: self.says("sinfo", "--noheader", "--Node", "--format=%t").split() == ["idle"] * 3)

    def _serve(self, program: str, *words: str) -> None:
        command = ["setpriv", "--pdeathsig", "TERM", str(shutil.which(program, path=WHERE)), *words]
        with (self.folder / f"{program}.out").open("ab") as out:
            environment = {**os.environ, **self.environment}
            service = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
        self.services.append(service)

    def _wait(self, true) -> None:
        deadline = time.monotonic() + 30
        while not _holds(true):
            if time.monotonic() > deadline or any(service.poll() is not None for service in self.services):
                logs = "\n".join(
                    path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.[lo][ou][gt]")
                )
                raise RuntimeError(f"Slurm did not start, or did not end its jobs:\n{logs}")
            time.sleep(0.1)


def _holds(true) -> bool:
    # no answer yet is no answer, as long as a service starts
    with suppress(subprocess.SubprocessError):
        return true()
    return False


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


if __name__ == "__main__":
    if why := missing():
        raise SystemExit(why)
    with Cluster() as cluster, suppress(KeyboardInterrupt):
        print(f"export SLURM_CONF={cluster.environment['SLURM_CONF']}   # then sinfo, sbatch, ...; Ctrl-C here ends it")
        while True:
            time.sleep(1)
