"""`ringcast backup` and `restore` on real replicas: a learner until the others take it in (V0, fault 33)."""

import asyncio
import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import ringcast
from replicas.bus.backup import MANIFEST, Manifest, backup, restore
from replicas.bus.config import BusConfig, load
from replicas.local.cluster import LocalCluster
from store.errors import BackupDamaged, FolderInUse, WrongFolder
from tests.processes.agreement import ring_is_whole, same_everywhere
from tests.processes.conftest import Start

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


def config_of(cluster: LocalCluster, member: int) -> BusConfig:
    return load(Path(cluster.replicas[member].config)).config


async def publish(cluster: LocalCluster, count: int) -> None:
    async with ringcast.connect(cluster.path, timeout=20) as bus:
        for number in range(count):
            await bus.publish("orders", b"%d" % number)


async def test_a_restored_replica_is_a_learner_and_catches_up(start_cluster: Start, tmp_path: Path) -> None:
    cluster = start_cluster()
    await publish(cluster, 20)
    file, config = tmp_path / "replica-2.backup", config_of(cluster, 2)
    with pytest.raises(FolderInUse):
        backup(config, file)
    assert not file.exists()
    cluster.stop([2])
    made = backup(config, file)
    assert {"data.mdb", "journal", "member.json"} <= made.files.keys()
    cluster.start([2])
    await asyncio.to_thread(cluster.wait_ready, [2])
    await publish(cluster, 20)  # the backup knows nothing of these
    cluster.stop([2])
    with pytest.raises(FileExistsError, match="is not empty"):
        restore(config, file)
    config.data.rename(tmp_path / "lost")
    assert restore(config, file) == made
    # Alone with a second one that is blank, it must not bring an old order back: it waits for those who remember.
    cluster.stop([1, 3])
    cluster.start([2])
    await asyncio.to_thread(cluster.wait_live, [2])
    await asyncio.to_thread(cluster.start, [1])
    await asyncio.sleep(1.5)
    assert not cluster.is_ready(2)
    assert not cluster.is_ready(1)
    await asyncio.to_thread(cluster.start, [3])
    await asyncio.to_thread(cluster.wait_ready)
    await ring_is_whole(cluster)
    async with ringcast.connect(cluster.path, replica=2, timeout=20) as bus:
        assert len(await bus.fetch("orders", 0, 100)) == 40
    await same_everywhere(cluster.path, 3)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> LocalCluster:
    """One replica that has run."""
    cluster = LocalCluster.create(tmp_path_factory.mktemp("stopped") / "cluster", 1)
    cluster.start()
    try:
        cluster.wait_ready()
    finally:
        cluster.stop()
    return cluster


def test_the_command(stopped: LocalCluster, tmp_path: Path) -> None:
    file, folder = tmp_path / "a.backup", tmp_path / "restored"

    def run(*arguments: object, code: int = 0) -> str:
        command = [sys.executable, "-P", "-m", "cli", *map(str, arguments), "--config", stopped.replicas[1].config]
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert found.returncode == code, found
        return found.stdout + found.stderr

    assert json.loads(run("backup", file, "--json"))["member"] == 1
    assert "is not empty" in run("restore", file, code=7)
    assert "a learner until it is readmitted" in run("restore", file, "--data", folder)
    assert (folder / "member.json").exists()
    assert "no data folder of a replica" in run("backup", file, "--data", tmp_path / "nowhere", code=7)
    file.write_bytes(file.read_bytes()[:-20_000])
    shutil.rmtree(folder)
    assert "no whole backup" in run("restore", file, "--data", folder, code=4)
    assert not folder.exists()


@pytest.mark.parametrize("damage", ["flip", "cut", "more", "out", "foreign", "no end"])
def test_a_file_that_is_wrong_leaves_nothing(stopped: LocalCluster, tmp_path: Path, damage: str) -> None:
    config = config_of(stopped, 1)
    file = tmp_path / "a.backup"
    backup(config, file)
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[len(data) // 3] ^= 1
    elif damage == "cut":
        del data[len(data) // 2 :]
    file.write_bytes(data)
    if damage in {"more", "out", "no end", "foreign"}:
        _rewrite(file, damage)
    target = config.model_copy(update={"data": tmp_path / "made"})
    with pytest.raises((BackupDamaged, WrongFolder)):
        restore(target, file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.backup"]


def _rewrite(file: Path, damage: str) -> None:
    """The same backup with one entry more, or less, or another owner."""
    source = file.with_name("source")
    file.rename(source)
    with tarfile.open(source) as old, tarfile.open(file, "w") as new:
        for entry in old:
            content = old.extractfile(entry)
            assert content is not None
            if entry.name == MANIFEST:
                if damage == "no end":
                    continue
                fields = json.loads(content.read())
                if damage == "foreign":
                    fields["member"] = 9
                _add(new, MANIFEST, json.dumps(fields).encode())
            else:
                new.addfile(entry, content)
        if damage == "more":
            _add(new, "extra", b"x")
    if damage == "out":
        with tarfile.open(file, "w") as new:
            _add(new, "../out", b"x")
    source.unlink()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def test_the_format_is_named() -> None:
    assert Manifest(1, 0, {}).format == 1
