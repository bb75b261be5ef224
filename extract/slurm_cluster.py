"""Workers as jobs of a SLURM cluster, by dask-jobqueue: the script of a job, and the jobs."""

# Neither library annotates what it exports.
# mypy: allow-untyped-calls

import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cache_schema import InputError
from extract.slurm_options import SlurmOptions
from extract.worker_environment import WORKER_ENVIRONMENT

if TYPE_CHECKING:
    from dask_jobqueue.slurm import SLURMCluster
    from distributed.security import Security

JOB_NAME: Final = "videodistill"
_MISSING: Final = (
    "--slurm needs dask-jobqueue and cryptography, which are not installed here: "
    "pip install 'videodistill-cache[slurm]'"
)
# Workers leave before SLURM kills them, so that what they have in hand is no death.
_LAST_SHARE: Final = 0.05
_LAST_SECONDS: Final = 120.0


def job_script(options: SlurmOptions, threads: int) -> str:
    """Returns the script that every job will run; submits nothing and needs no cluster.

    Args:
        options: what SLURM is asked for.
        threads: blocks that a worker may have in hand.

    Raises:
        InputError: dask-jobqueue is not installed.
    """
    try:
        from dask_jobqueue.slurm import SLURMJob
    except ImportError as error:
        raise InputError(_MISSING) from error
    job = SLURMJob(
        scheduler="tls://THIS-MACHINE:PORT",
        name=JOB_NAME,
        **_job_arguments(options, threads),
    )
    return str(job.job_script())


@contextmanager
def slurm_cluster(options: SlurmOptions, threads: int) -> Iterator["SLURMCluster"]:
    """Starts a scheduler in this process and submits the jobs; ends both.

    All connections are encrypted with keys made for this job, because Dask's messages carry
    programs and the scheduler listens to other machines. The keys lie below the folder of the
    logs, for its owner alone to read, as long as the job lasts.

    Args:
        options: what SLURM is asked for.
        threads: blocks that a worker may have in hand.

    Raises:
        InputError: dask-jobqueue, cryptography or sbatch is not here, or sbatch refuses such jobs.
    """
    try:
        import cryptography  # noqa: F401 -- Dask makes keys with it
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError as error:
        raise InputError(_MISSING) from error
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        raise InputError(
            "There is no sbatch here: start --slurm on a machine that submits jobs to the cluster, "
            "or add --dry-run to see the job's script."
        )
    arguments = _job_arguments(options, threads)
    folder = options.log_folder
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="keys-", dir=folder) as keys,
        SLURMCluster(
            n_workers=0,
            security=_fresh_keys(Path(keys)),
            scheduler_options={"dashboard": False},
            **arguments,
        ) as cluster,
    ):
        _require_accepted(sbatch, cluster.job_script(), Path(keys))
        cluster.adapt(minimum_jobs=options.jobs, maximum_jobs=options.jobs)
        yield cluster


def _fresh_keys(folder: Path) -> "Security":
    """Makes keys for the job, in files, where the workers find them."""
    from distributed.security import Security

    made = Security.temporary()
    content = {
        "ca.pem": made.tls_ca_file,
        "cert.pem": made.tls_worker_cert,
        "key.pem": made.tls_worker_key,
    }
    for name, text in content.items():
        file = folder / name
        file.touch(mode=0o600)
        file.write_text(text)
    files: dict[str, Any] = {"tls_ca_file": str(folder / "ca.pem"), "require_encryption": True}
    for role in ("client", "scheduler", "worker"):
        files[f"tls_{role}_cert"] = str(folder / "cert.pem")
        files[f"tls_{role}_key"] = str(folder / "key.pem")
    return Security(**files)


def _require_accepted(sbatch: str, script: str, folder: Path) -> None:
    """Asks SLURM whether it would take such a job: Dask would try again without end.

    Raises:
        InputError: with SLURM's own words.
    """
    file = folder / "test-only.sh"
    file.write_text(script)
    asked = subprocess.run(  # noqa: S603 -- a list of arguments of our own
        [sbatch, "--test-only", str(file)], capture_output=True, text=True, check=False
    )
    if asked.returncode != 0:
        said = (asked.stderr or asked.stdout).strip()
        raise InputError(
            f"SLURM does not take such a job: {said}. --dry-run shows its script, --slurm-set and "
            "--slurm-file change it."
        )


def _job_arguments(options: SlurmOptions, threads: int) -> dict[str, Any]:
    log = f"{options.log_folder}/{JOB_NAME}-%J.log"
    directives = [f"-o {log}", *options.extra]
    if options.qos:
        directives.append(f"--qos={options.qos}")
    if options.gpus:
        directives.append(f"--gres=gpu:{options.gpus}")
    spare = min(_LAST_SECONDS, _LAST_SHARE * options.seconds)
    exports = [f"export {name}={shlex.quote(value)}" for name, value in WORKER_ENVIRONMENT.items()]
    return {
        "job_name": JOB_NAME,
        # Nothing of a person's own Dask configuration: a script is what is shown of it.
        "config_name": "slurm",
        "queue": options.partition or None,
        "account": options.account or None,
        "walltime": options.time,
        "memory": f"{options.memory}iB",
        "job_mem": options.memory,
        "job_cpu": options.cores,
        "processes": options.processes,
        "cores": options.processes * threads,
        "python": shlex.quote(sys.executable),
        "interface": options.interface or None,
        "local_directory": shlex.quote(options.local_dir) if options.local_dir else None,
        "job_extra_directives": directives,
        "job_script_prologue": [*options.prologue, *exports],
        # What a worker holds is bounded by its blocks in hand, which Dask cannot see.
        "worker_extra_args": [
            "--memory-limit",
            "0",
            "--lifetime",
            f"{options.seconds - spare:.0f}s",
        ],
    }
