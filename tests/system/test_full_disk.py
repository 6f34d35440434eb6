"""A disk that is full half-way: a clear error, and the same command goes on once there is space."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROWS = 60_000
# Runs as root of a namespace of its own, where it may mount a small disk.
SCRIPT = """
set -eu
mount -t tmpfs -o size={size} none {disk}
set +e
{command} 2> {folder}/first.log
echo $? > {folder}/first.code
set -e
ls -A {disk}/shards > {folder}/left.txt
mount -o remount,size=512m {disk}
{command} 2> {folder}/second.log
cp -r {disk}/shards {folder}/shards
"""


def bytes_of(shards: Path) -> dict[str, bytes]:
    files = (file for file in shards.rglob("*") if file.is_file() and file.name != "run.json")
    return {file.relative_to(shards).as_posix(): file.read_bytes() for file in files}


@pytest.mark.parametrize("dedup", ["exact", "near"])
def test_space_made_half_way_ends_in_the_same_bytes(tmp_path: Path, dedup: str) -> None:
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("no user namespaces here: unshare -rm does not run")
    pairs = tmp_path / "pairs.jsonl"
    with pairs.open("w", encoding="utf-8") as file:
        for n in range(ROWS):
            words = " ".join(f"{n * 31 % 997}w{n * k % 4093}" for k in range(40))
            file.write(json.dumps({"query": f"question {n} about {n * 7 % 911}", "pos": [words]}) + "\n")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [sys.executable, "-m", "bgeprep", "shard", "--in", str(pairs), "--dedup", dedup, "--quiet", "--out"]
    # More than the run needs at its start, less than it needs in the end.
    size = int(pairs.stat().st_size * 0.75)
    script = SCRIPT.format(size=size, disk=disk, folder=tmp_path, command=" ".join([*command, f"{disk}/shards"]))
    subprocess.run(["unshare", "-rm", "bash", "-c", script], check=True, timeout=300)

    assert (tmp_path / "first.code").read_text().strip() == "1"
    said = (tmp_path / "first.log").read_text()
    assert "No space left" in said
    assert "Traceback" not in said
    assert "manifest.json" not in (tmp_path / "left.txt").read_text()
    subprocess.run([*command, str(tmp_path / "whole")], check=True, timeout=300)
    assert bytes_of(tmp_path / "shards") == bytes_of(tmp_path / "whole")


def test_a_disk_that_is_too_small_is_named_before_any_work(tmp_path: Path) -> None:
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("no user namespaces here: unshare -rm does not run")
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({"query": f"q {n}", "pos": ["word " * 200]}) + "\n" for n in range(20_000)))
    disk = tmp_path / "disk"
    disk.mkdir()
    command = f"{sys.executable} -m bgeprep shard --in {pairs} --out {disk}/shards"
    script = f"mount -t tmpfs -o size=2m none {disk} && {command}; code=$?; ls -A {disk}; exit $code"
    done = subprocess.run(["unshare", "-rm", "bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "needs about" in done.stderr
    assert "hint: " in done.stderr
    assert ".work" not in done.stdout
