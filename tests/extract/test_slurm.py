"""SLURM without a cluster: the script of a job, and jobs that a stand-in for sbatch starts here."""

import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cache_schema import InputError, open_store
from extract.job import JobOptions, run_extraction
from extract.slurm_cluster import job_script, slurm_cluster
from extract.slurm_options import SlurmOptions
from extract.worker_environment import WORKER_ENVIRONMENT
from tests.extract.disturbed_jobs import FRAMES, cut_clips

SBATCH = """#!{python}
import os, subprocess, sys
script = sys.argv[-1]
if "--test-only" in sys.argv:
    sys.exit()
copy = os.path.join({folder!r}, "job.sh")
with open(script) as source, open(copy, "w") as target:
    target.write(source.read())
log = open(os.path.join({folder!r}, "job.log"), "w")
job = subprocess.Popen(["bash", copy], stdout=log, stderr=log, start_new_session=True)
with open(os.path.join({folder!r}, "pids"), "a") as pids:
    pids.write(f"{{job.pid}}\\n")
print(f"Submitted batch job {{job.pid}}")
"""

SCANCEL = """#!{python}
import os, signal, sys
for number in sys.argv[1:]:
    try:
        os.killpg(int(number), signal.SIGKILL)
    except ProcessLookupError:
        pass
"""


def program(folder, name, text):
    path = folder / name
    path.write_text(text.format(python=sys.executable, folder=str(folder)))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def enter(options):
    with slurm_cluster(options, 2):
        raise AssertionError("a cluster was started")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder with sbatch and scancel in it, at the head of the search path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program(folder, "sbatch", SBATCH)
    program(folder, "scancel", SCANCEL)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    yield folder
    pids = folder / "pids"
    for number in pids.read_text().split() if pids.exists() else ():
        subprocess.run([sys.executable, folder / "scancel", number], check=True)


def test_the_script_asks_for_what_was_asked_for(tmp_path):
    options = SlurmOptions(
        jobs=4, partition="gpu", account="lab", qos="long", time="1-02:00:00", memory="64G", cores=16,
        gpus=2, interface="", log_dir=str(tmp_path / "logs"), local_dir="/scratch/$(id) x",
        extra=("--constraint=a100",), prologue=("module load cuda",),
    )  # fmt: skip
    script = job_script(options, 2)
    lines = script.splitlines()
    for directive in (
        "-p gpu", "-A lab", "--qos=long", "-t 1-02:00:00", "--mem=64G", "--cpus-per-task=16",
        "--gres=gpu:2", "--constraint=a100",
    ):  # fmt: skip
        assert f"#SBATCH {directive}" in lines
    assert f"#SBATCH -o {tmp_path}/logs/videodistill-%J.log" in lines
    for name, value in WORKER_ENVIRONMENT.items():
        assert f"export {name}={value}" in lines
    assert lines.index("module load cuda") < len(lines) - 1
    words = shlex.split(lines[-1] or lines[-2])
    assert words[:3] == [sys.executable, "-m", "distributed.cli.dask_worker"]
    assert words[words.index("--local-directory") + 1] == "/scratch/$(id) x"
    assert words[words.index("--nworkers") + 1] == "2"
    assert words[words.index("--nthreads") + 1] == "2"
    assert not (tmp_path / "logs").exists()
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("partition=gpu; rm -rf /", "a word without blanks"),
        ("partition=gpu\n#SBATCH --uid=root", "a word without blanks"),
        ("account=-A", "a word without blanks"),
        ("qos=$(id)", "a word without blanks"),
        ("interface=ib0`id`", "a word without blanks"),
        ("time=1 hour", "HH:MM:SS"),
        ("time=00:00:00", "HH:MM:SS"),
        ("memory=16", "a number with M, G or T"),
        ("memory=16G;id", "a number with M, G or T"),
        ("extra=--comment=a b", "without blanks"),
        ("extra=; id", "without blanks"),
        ("log_dir=a b", "letters, digits"),
        ("local_dir=a\nb", "line break"),
        ("jobs=0", "at least 1"),
        ("cores=x", "int is expected"),
        ("cores=1\n", "int is expected"),
        ("gpus=9", "less than one for each GPU"),
        ("partion=gpu", "Did you mean 'partition'"),
        ("partition", "write key=value"),
    ],
)
def test_values_that_would_be_read_as_something_else_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        SlurmOptions.read(changes=[change])


def test_options_come_from_a_file_and_are_changed_one_by_one(tmp_path):
    file = tmp_path / "slurm.toml"
    file.write_text('partition = "gpu"\njobs = 8\nprologue = ["module load x"]\n')
    options = SlurmOptions.read(file, ["jobs=2", "time=00:30:00", "extra=--exclusive"])
    assert (options.partition, options.jobs, options.seconds) == ("gpu", 2, 1800)
    assert (options.prologue, options.extra) == (("module load x",), ("--exclusive",))
    file.write_text("jobs = '8'\n[deep]\n")
    with pytest.raises(InputError, match="deep"):
        SlurmOptions.read(file)
    file.write_text("jobs = ")
    with pytest.raises(InputError, match="cannot be read"):
        SlurmOptions.read(file)


def test_without_sbatch_it_says_where_to_start(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="no sbatch here"):
        enter(SlurmOptions(log_dir=str(tmp_path / "logs")))
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("missing", ["dask_jobqueue.slurm", "cryptography"])
def test_without_the_extra_it_says_what_to_install(missing, monkeypatch, slurm, tmp_path):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=r"videodistill-cache\[slurm\]"):
        enter(SlurmOptions(log_dir=str(tmp_path / "logs")))


@pytest.mark.slow
def test_a_job_in_slurm_jobs(slurm, tmp_path, tiny_spec, encode_video):
    folder = tmp_path / "videos"
    folder.mkdir()
    clips = cut_clips(folder, 4, encode_video)
    logs = tmp_path / "logs"
    options = JobOptions(slurm=SlurmOptions(cores=1, memory="1G", log_dir=str(logs)))
    tally = run_extraction(clips, tmp_path / "s", tiny_spec, frames=FRAMES, options=options)
    assert (tally.ok, tally.failed) == (4, 0), (slurm / "job.log").read_text()
    assert len(open_store(tmp_path / "s")) == 4
    assert "tls://" in (slurm / "job.sh").read_text()
    assert list(logs.iterdir()) == []  # no key outlives the job
    assert stat.S_IMODE(logs.stat().st_mode) == 0o700


def test_what_sbatch_refuses_is_said(slurm, tmp_path, tiny_spec, encode_video):
    program(slurm, "sbatch", "#!/bin/sh\necho 'invalid partition specified' >&2\nexit 1\n")
    folder = tmp_path / "videos"
    folder.mkdir()
    clips = cut_clips(folder, 4, encode_video)
    options = JobOptions(slurm=SlurmOptions(cores=1, log_dir=str(tmp_path / "logs")))
    with pytest.raises(InputError, match="invalid partition"):
        run_extraction(clips, tmp_path / "s", tiny_spec, frames=FRAMES, options=options)
