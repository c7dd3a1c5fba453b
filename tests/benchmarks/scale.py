"""Measure index and scheduler at full scale, on made-up frames: python tests/benchmarks/scale.py --times 1

Snakemake plans all of config/paper.yaml and computes nothing. `--times N` has N times as many seeds, and an
index of N times as many keyframes. docs/scale.md has the numbers.
"""

import argparse
import csv
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import yaml
from test_loading_speed import full_size_index

from clip2scene.datasets.index import Index, write_index

ROOT = Path(__file__).parents[2]
READ = """
import sys, time
from pathlib import Path
from clip2scene.datasets.index import read_index
start = time.process_time()
found = read_index(Path(sys.argv[1]), Path()).split("parametrize")
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(time.process_time() - start, peak.split()[1])
"""


def index(times: int) -> dict[str, float]:
    """Write and read an index of `times` as many keyframes as nuScenes has."""
    frames = full_size_index()
    frames = pd.concat([frames.assign(id=f"{number}-" + frames["id"]) for number in range(times)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.parquet"
        write_index(path, Index("nuscenes", Path(folder), frames.reset_index(drop=True)))
        size, count = path.stat().st_size, len(frames)
        del frames
        printed = subprocess.check_output([sys.executable, "-c", READ, str(path)], text=True, cwd=ROOT)
    seconds, kib = map(float, printed.split())
    return {"keyframes": count, "MiB": size / 2**20, "CPU seconds": seconds, "peak MiB": kib / 2**10}


def workflow(times: int) -> dict[str, float]:
    """Plan every job of the full configuration, of `times` as many seeds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for source in ("Snakefile", "rules", "config", "environment.yml", "results/published"):
            (folder / source).parent.mkdir(exist_ok=True)
            (folder / source).symlink_to(ROOT / source)
        config = yaml.safe_load((folder / "config/paper.yaml").read_text())
        lines = (folder / config["experiments"]).read_text().splitlines()
        rows = list(csv.DictReader([line for line in lines if line and line[0] != "#"], delimiter="\t"))
        for row in rows:
            for column in ("seeds", "pretrain_seeds"):
                drawn = map(int, row[column].split())
                row[column] = " ".join(str(seed + 100 * n) for seed in drawn for n in range(times))
        with (folder / "experiments.tsv").open("w") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t")
            writer.writeheader()
            writer.writerows(rows)
        (folder / "config.yaml").write_text(yaml.safe_dump(config | {"experiments": "experiments.tsv"}))
        env = os.environ | {"PYTHONPATH": str(ROOT), "CLIP2SCENE_CONFIG": "config.yaml"}
        command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1"]
        before = os.times()
        done = subprocess.run(command, cwd=folder, env=env, text=True, capture_output=True, check=False)
        spent = os.times()
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    jobs = re.search(r"^total +(\d+)$", done.stdout + done.stderr, re.MULTILINE)
    return {
        "jobs": int(jobs[1]),
        "CPU seconds": spent.children_user
        + spent.children_system
        - before.children_user
        - before.children_system,
        "peak MiB": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10,
    }


def main() -> None:
    """Print both, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=1)
    times = parser.parse_args().times
    for measure in (workflow, index):
        print(json.dumps({measure.__name__: measure(times)}), flush=True)


if __name__ == "__main__":
    main()
