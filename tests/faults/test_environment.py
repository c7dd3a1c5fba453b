"""Machines short of permissions, disk or memory: one line, and nothing half-written."""

import errno
import fcntl
import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from clip2scene import compute, files, machine
from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.evaluation.confusion import write_confusion
from clip2scene.models.weights import write_checkpoint
from clip2scene.runs import Run
from clip2scene.training.loading import batch_bytes, loaded

CONFIG = Config(device="cpu", datasets={"any": {"root": "data"}})
WEIGHTS = {"a": torch.rand(100_000)}
NUMBERS = np.random.default_rng(0).integers(0, 10**9, (10, 17, 17))


@contextmanager
def small_files(size):
    """Let no file of this process grow beyond `size` bytes, as on a disk that is nearly full."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def table(path):
    with files.atomic(path) as temporary:
        pd.DataFrame({"a": np.random.default_rng(0).random(10_000)}).to_parquet(temporary)


WRITERS = {
    "checkpoint": lambda path: write_checkpoint(path, WEIGHTS),
    "confusion": lambda path: write_confusion(path, ["a"] * 10, {"all": NUMBERS}),
    "JSON": lambda path: files.write_json(path, ["text"] * 10_000),
    "Parquet": table,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_one_error_with_the_file_and_leaves_nothing(tmp_path, writer):
    path = tmp_path / "new.npz"
    with small_files(5_000), pytest.raises(OSError, match="File too large") as error:
        WRITERS[writer](path)
    assert error.value.errno == errno.EFBIG
    assert error.value.filename == str(path)
    assert "->" not in str(error.value)
    assert not list(tmp_path.iterdir())
    WRITERS[writer](path)
    assert path.stat().st_size > 5_000


def test_a_full_disk_leaves_what_was_there(tmp_path):
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, {"a": torch.ones(1)})
    before = path.read_bytes()
    with small_files(5_000), pytest.raises(OSError, match="File too large"):
        write_checkpoint(path, WEIGHTS)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_full_disk_while_a_folder_is_made_leaves_none(tmp_path):
    def make():
        with files.new_directory(tmp_path / "data") as folder:
            (folder / "points.bin").write_bytes(bytes(10_000))

    with small_files(5_000), pytest.raises(OSError, match="File too large") as error:
        make()
    assert error.value.filename == str(tmp_path / "data")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_while_numpy_writes_names_the_folder(tmp_path):
    """NumPy's error has neither a number nor a file."""

    def make():
        with files.new_directory(tmp_path / "data"):
            np.ones(100_000).tofile("/dev/full")

    with pytest.raises(InputError, match="written; expected room for it on the disk") as error:
        make()
    assert str(error.value).startswith(f"{tmp_path / 'data'}: ")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_while_a_step_is_logged_names_the_log(tmp_path, make_record):
    record = make_record(tmp_path / "abc")
    record.begin(CONFIG, "cpu")

    def log():
        for step in range(100):
            record.log({"step": step, "loss": 1.0})

    with small_files(100), pytest.raises(OSError, match=r"metrics\.jsonl"):
        log()
    assert len(record.logged()) < 10  # the line that was cut is left out


ERRORS = [
    (lambda path: OSError(errno.ENOSPC, "No space left on device"), "No space left on device: '{path}'"),
    (lambda path: PermissionError(errno.EACCES, "Permission denied", str(path.with_name(".a.txt.x1y2.txt"))),
     "Permission denied: '{path}'"),
    (lambda path: OSError(errno.EIO, "I/O error", "/other/file"), "I/O error: '/other/file'"),
    (lambda path: OSError("a reader's own words"), "a reader's own words"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), ERRORS)
def test_an_error_names_the_file_that_was_asked_for(tmp_path, make, message):
    path = tmp_path / "a.txt"
    with pytest.raises(OSError, match=r".") as error, files.naming(path):
        raise make(path)
    assert str(error.value).endswith(message.format(path=path))


READ = [
    (PermissionError(errno.EACCES, "Permission denied"), "a.jpg: Permission denied; expected an image"),
    (OSError(errno.ELOOP, "Too many levels of symbolic links"), "a.jpg: Too many levels of symbolic"),
    (IsADirectoryError(errno.EISDIR, "Is a directory"), "a.jpg: is a folder; expected an image"),
    (OSError("image file is truncated"), "a.jpg: expected an image, found a damaged file (image file is"),
    (SyntaxError("broken PNG file"), "a.jpg: expected an image, found a damaged file (broken PNG file)"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "a.jpg: expected an image, found a damaged file"),
    (InputError("b.txt: as it is"), "b.txt: as it is"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "message"), READ)
def test_what_goes_wrong_while_reading_is_one_line(error, message):
    with pytest.raises(InputError) as found, files.reading("a.jpg", "an image", OSError, SyntaxError):
        raise error
    assert str(found.value).startswith(message)


def unprivileged(code, *arguments, **environment):
    """Run Python code as a user whom permissions bind; root is not bound by them."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    if os.getuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root may do everything here, and there is no setpriv")
        caps = "-dac_override,-dac_read_search"
        command = ["setpriv", "--bounding-set", caps, "--inh-caps", caps, *command]
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | environment
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


LOCK = "import sys; from clip2scene.files import lock; lock(sys.argv[1], 'run'); print('locked')"


@pytest.mark.parametrize(("mode", "said"), [(0o444, "locked"), (0o000, "PermissionError")])
def test_another_user_s_lock_file_is_locked_without_writing(tmp_path, mode, said):
    path = tmp_path / "run.lock"
    path.touch()
    path.chmod(mode)
    done = unprivileged(LOCK, path)
    assert said in done.stdout + done.stderr


def test_a_lock_that_cannot_be_written_excludes_all_the_same(tmp_path, monkeypatch):
    path = tmp_path / "run.lock"
    path.touch()
    ours = path.open()
    fcntl.flock(ours, fcntl.LOCK_EX)
    path.chmod(0o444)
    waiting = (
        "import sys, signal; signal.alarm(3); from clip2scene.files import lock; lock(sys.argv[1], 'run 1')"
    )
    done = unprivileged(waiting, path)
    assert done.returncode == -14  # the alarm: it waited
    assert f"run 1: another process is at it; waiting for {path}" in done.stderr


WRITE = "import sys; from clip2scene.files import write_json; write_json(sys.argv[1], [1])"


def test_a_folder_that_may_not_be_written_is_named_by_the_file(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir(mode=0o555)
    done = unprivileged(WRITE, folder / "a.json")
    assert done.stderr.strip().endswith(f"Permission denied: '{folder / 'a.json'}'")
    assert not list(folder.iterdir())


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o027, 0o077])
def test_files_have_the_permissions_that_the_umask_leaves(tmp_path, umask):
    before = os.umask(umask)
    try:
        files.write_json(tmp_path / "a.json", 1)
        with files.new_directory(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o666 & ~umask
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~umask


CONVOLVE = """
import torch
from clip2scene.sparse import Geometry
voxels = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0]]).int()
print(Geometry(voxels).convolve(torch.ones(2, 4), torch.ones(27, 4, 4), 1, 3).sum().item())
"""


def test_kernels_are_compiled_where_no_cache_can_be_written(tmp_path):
    """A read-only installation, and a home that cannot be written either."""
    root = Path(__file__).parents[2]
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(root / "clip2scene", tmp_path / "site/clip2scene", ignore=ignored)
    (tmp_path / "home").mkdir()
    for folder in (tmp_path / "home", *(path for path in (tmp_path / "site").rglob("*") if path.is_dir())):
        folder.chmod(0o555)
    home = str(tmp_path / "home")
    where = {"PYTHONPATH": str(tmp_path / "site"), "HOME": home, "XDG_CACHE_HOME": f"{home}/cache"}
    done = unprivileged(CONVOLVE, **where)
    for folder in (tmp_path / "site").rglob("*"):
        folder.chmod(0o755)
    assert done.stdout.strip() == "64.0", done.stderr


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_gpu_s_lock_can_be_read_by_other_users(tmp_path, umask):
    before = os.umask(umask)
    try:
        os.close(machine._open(tmp_path / "gpu-0.lock"))
    finally:
        os.umask(before)
    assert (tmp_path / "gpu-0.lock").stat().st_mode & 0o777 == 0o644


def test_a_gpu_s_lock_that_nobody_may_read_is_passed_by(tmp_path):
    path = tmp_path / "gpu-0.lock"
    path.touch()
    path.chmod(0)
    code = "import sys; from clip2scene.machine import *; from clip2scene import machine; "
    code += "machine._open(Path(sys.argv[1])); print('open')"
    done = unprivileged(code, path)
    assert done.stdout.strip() == "open", done.stderr


class Disk:
    """Stands in for `shutil.disk_usage`."""

    def __init__(self, free):
        self.free = free


@pytest.mark.parametrize(
    ("workers", "free", "refused"),
    [
        (0, 0, False),
        (2, 10 * 2**30, False),
        (2, 5 * 2**20, False),  # 2 batches each, and one in use
        (2, 5 * 2**20 - 1, True),
        (16, 20 * 2**20, True),
        (2, 0, True),
    ],
)
def test_shared_memory_that_loader_workers_would_overflow(tmp_path, monkeypatch, workers, free, refused):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: Disk(free))
    if not refused:
        machine.refuse_small_shared_memory(workers, lambda: 2**20, tmp_path)
        return
    found = (
        rf"workers: {workers} loader processes need \d+ MiB of shared memory; .* has {free / 2**20:.0f} MiB"
    )
    with pytest.raises(InputError, match=found):
        machine.refuse_small_shared_memory(workers, lambda: 2**20, tmp_path)


def test_a_batch_is_as_large_as_its_tensors(make_batch):
    batch = make_batch(samples=1)
    expected = sum(value.nbytes for value in vars(batch).values() if isinstance(value, torch.Tensor))
    assert batch_bytes(batch) == expected > 1000


class Samples:
    """Samples of which one does not load."""

    def __init__(self, fail):
        self.fail = fail

    def __len__(self):
        return 4

    def __getitem__(self, number):
        if number == 2:
            self.fail()
        return number


def bad_file():
    raise InputError("data/a.jpg: expected an image, found a damaged file")


def kill():
    os.kill(os.getpid(), 9)


def bug():
    raise KeyError("a bug")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_file_is_one_line_whoever_loads_it(workers):
    loader = DataLoader(Samples(bad_file), batch_size=None, num_workers=workers)
    with pytest.raises(InputError) as error:
        list(loaded(loader))
    assert str(error.value) == "data/a.jpg: expected an image, found a damaged file"


def test_a_loader_process_that_is_killed_is_one_line():
    loader = DataLoader(Samples(kill), batch_size=None, num_workers=1)
    with pytest.raises(
        InputError, match=r"workers: 1 loader processes: DataLoader worker .*\(0 loads in the"
    ):
        list(loaded(loader))


def test_a_bug_in_a_loader_process_stays_one():
    with pytest.raises(KeyError, match="a bug"):
        list(loaded(DataLoader(Samples(bug), batch_size=None, num_workers=1)))
    assert list(loaded(DataLoader(Samples(lambda: None), batch_size=None))) == [0, 1, 2, 3]


MEMORY = [
    (
        lambda: torch.empty(10**13),
        "has no memory for 40000000000000 bytes more; expected a smaller batch_size",
    ),
    (
        lambda: torch.empty(2**62),
        "the machine has no memory; expected a smaller batch_size, or backbones.spvcnn",
    ),
    (lambda: np.empty(10**15), "has no memory for 7.11 PiB more; expected a smaller"),
]


@pytest.mark.parametrize(("ask", "message"), MEMORY)
def test_too_little_memory_names_the_run_and_what_to_change(ask, message):
    with (
        pytest.raises(InputError) as error,
        compute._naming_memory(Run("finetune", "abc", backbone="spvcnn")),
    ):
        ask()
    assert str(error.value).startswith("run abc (finetune: ")
    assert message in str(error.value)


def test_another_error_of_torch_is_a_bug():
    with pytest.raises(RuntimeError, match="shapes"), compute._naming_memory(Run("finetune", "abc")):
        torch.ones(2, 3) @ torch.ones(2, 3)


def test_a_backend_that_matplotlib_does_not_know_changes_nothing():
    code = "import clip2scene.cli, matplotlib; from matplotlib import pyplot; print(matplotlib.get_backend())"
    env = os.environ | {"MPLBACKEND": "nope"}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert (run.returncode, run.stdout.lower()) == (0, "agg\n"), run.stderr


def test_too_little_memory_for_the_libraries_is_one_line(tmp_path):
    command = [sys.executable, "-m", "clip2scene", "export-checkpoint", "absent.pt", str(tmp_path / "out.pt")]

    def little():
        resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))

    env = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, preexec_fn=little, env=env, capture_output=True, text=True)
    assert run.returncode == 2, run.stderr
    assert run.stderr.startswith("error: ")
    assert "expected more memory for this process (see `ulimit -v`)" in run.stderr
    assert run.stderr.count("\n") == 1
