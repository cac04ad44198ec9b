"""store/raft_backup.py: a backup is whole or refused, and what is made of it is a cluster of its own."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.errors import BackupDamaged, ChunkDamaged, FolderInUse, ForeignBackup
from store.raft_backup import Backup, BackupWriter, Head, lineage
from store.raft_contract import Snapshot, Write
from store.raft_log import RaftStore
from tests.raft.driver import GENESIS, HARD, sets, until
from tests.raft.tables import TABLES, Heard, TableMachine, make

CLUSTER = 0x1234_5678_0000_0007
ADDRESSES = {1: "host-1:1:2", 2: "host-2:1:2", 3: "host-3:1:2"}


@pytest.fixture
async def made(tmp_path: Path) -> Path:
    """A backup of 60 rows, in more than two chunks."""
    store: RaftStore = make(tmp_path / "data", asyncio.get_running_loop(), chunk_bytes=1_000)
    store.recover(Heard())
    entries = [sets(index, key=b"key-%03d" % index, value=b"v" * 40) for index in range(2, 62)]
    store.commit(
        [Write(1, hard=HARD._replace(cluster=CLUSTER), found=GENESIS), Write(2, append=entries, apply=entries)]
    )
    snapshots: list[Snapshot | None] = []
    store.make_snapshot(snapshots.append)
    await until(lambda: bool(snapshots))
    (snapshot,) = snapshots
    assert snapshot is not None
    assert snapshot.count > 2
    path = tmp_path / "backup"
    with BackupWriter(path, Head(CLUSTER, snapshot.name, 61, 1, snapshot.count)) as backup:
        for number in range(snapshot.count):
            chunk = store.read_chunk(snapshot.name, number)
            assert chunk is not None
            backup.add(chunk)
    store.close()
    return path


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    found = asyncio.new_event_loop()
    yield found
    found.close()


def restore(path: Path, folder: Path, loop: asyncio.AbstractEventLoop, member: int = 2) -> int:
    return Backup(path).restore(folder, member, ADDRESSES, TABLES, TableMachine, loop)


def test_a_restored_disk_is_the_only_voter_of_a_new_cluster(
    made: Path, tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    clusters = {restore(made, tmp_path / f"new-{number}", loop) for number in range(2)}
    assert len(clusters | {CLUSTER}) == 3
    assert {lineage(cluster) for cluster in clusters} == {lineage(CLUSTER)}
    store, other = (make(tmp_path / f"new-{number}", loop, 2) for number in range(2))
    found, again = store.recover(Heard()), other.recover(Heard())
    assert found.hard is not None
    assert again.hard is not None
    assert found.hard.storage not in {HARD.storage, again.hard.storage}, "a disk with a name of its own (V0)"
    assert (found.hard.cluster in clusters, found.hard.term, found.hard.voted_for, found.hard.known) == (
        True, 1, None, ()
    )  # fmt: skip
    assert (found.base.index, found.base.term, found.last, found.applied) == (61, 1, 61, 61)
    assert found.base.members.voters == (2,)
    assert [(one.id, one.voter, one.storage, one.address) for one in found.base.members] == [
        (1, False, 0, "host-1:1:2"),
        (2, True, found.hard.storage, "host-2:1:2"),
        (3, False, 0, "host-3:1:2"),
    ]
    machine = store.machine
    assert isinstance(machine, TableMachine)
    with store.reading() as transaction:
        assert [machine.value(transaction, b"key-%03d" % index) for index in (1, 2, 61)] == [None, b"v" * 40, b"v" * 40]
    for one in (store, other):
        one.close()


def test_whatever_is_changed_in_the_file_is_found(made: Path) -> None:
    whole = made.read_bytes()
    for place in range(0, len(whole), 7):
        made.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(BackupDamaged, match="nothing was changed"):
            Backup(made)
    made.write_bytes(whole)
    Backup(made)
    for kept in (0, 3, 4, 7, 20, len(whole) // 2, len(whole) - 1):
        made.write_bytes(whole[:kept])
        with pytest.raises(BackupDamaged):
            Backup(made)
    made.write_bytes(whole + b"\0")
    with pytest.raises(BackupDamaged, match="more follows"):
        Backup(made)


def test_a_chunk_is_left_out_or_is_another_ones(made: Path, tmp_path: Path) -> None:
    backup = Backup(made)
    chunks = list(backup.chunks())
    path = tmp_path / "other"

    def write(head: Head, *parts: bytes) -> None:
        with BackupWriter(path, head) as writer:
            for part in parts:
                writer.add(part)

    with pytest.raises(BackupDamaged, match=f"{len(chunks) - 1} of {len(chunks)} chunks came"):
        write(backup.head, *chunks[:-1])
    with pytest.raises(ChunkDamaged, match="it says it is chunk 1"):
        write(backup.head, chunks[1])
    with pytest.raises(ChunkDamaged, match="not the last of 1"):
        write(backup.head._replace(chunks=1), chunks[0])
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith("other")] == []


def test_a_backup_of_another_cluster_is_told(made: Path, loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    backup = Backup(made)
    backup.check_lineage(CLUSTER)
    backup.check_lineage(restore(made, tmp_path / "new", loop))
    with pytest.raises(
        ForeignBackup, match="is a backup of cluster 1234567800000007, this is cluster 9234567800000007"
    ):
        backup.check_lineage(CLUSTER | 1 << 63)


def test_a_restore_that_was_cut_off_is_begun_anew(made: Path, tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    folder = tmp_path / "new"
    half: RaftStore = make(tmp_path / "new.restoring", loop, 2)
    half.recover(Heard())
    with pytest.raises(FolderInUse):
        restore(made, folder, loop)
    half.close()
    restore(made, folder, loop)
    assert not (tmp_path / "new.restoring").exists()
    store: RaftStore = make(folder, loop, 2)
    assert store.recover(Heard()).applied == 61
    store.close()
