"""A local cluster that runs within a block, and whose processes are gone behind it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from replicas.local.cluster import LocalCluster

Cluster = TypeVar("Cluster", bound=LocalCluster)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of its own for a folder; the test is skipped where it cannot be mounted."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "ringcast-test", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no `mount` to make a small disk with")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here, it takes the right to mount: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def running(cluster: Cluster) -> Iterator[Cluster]:
    """All replicas, ready."""
    cluster.start()
    try:
        cluster.wait_ready()
        yield cluster
    finally:
        for member in cluster.running():
            cluster.kill(member)
