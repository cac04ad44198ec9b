"""What a bus replica says of its health: /readyz and its metrics (docs/operations.md lists them all)."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from broker.security import Security
from replicas.bus.accepted_loss import advice
from replicas.bus.shell import Shell
from replicas.bus.standing import broken_links, connected
from replicas.health import Checks
from replicas.metrics import by_name, counters, disk_space, dropped, events, gauges
from sequencer.clocks import ClockStatus
from sequencer.messages import Nack
from sequencer.quorum import majority
from store.aside import told


def readiness(shell: Shell) -> Mapping[str, object]:
    """Ready: the member can order and acknowledge now."""
    trouble = shell.unready()
    return {
        "ready": trouble is None,
        "state": shell.state,
        "why": str(trouble) if trouble else None,
        "advice": advice(shell.core, shell.asides.found),
        "clock": clock_trouble(shell.core.clock_status(), shell.config.id),
        "links": broken_links(shell.core),
        "member": shell.config.id,
        "cluster": f"{shell.cluster():016x}",
    }


def clock_trouble(clocks: ClockStatus, member: int) -> str | None:
    """What is wrong with this member's clock, or with the ring's time (D7), and what to do."""
    if member in clocks.beyond:
        return (
            f"this replica's clock is {clocks.offsets_us[member] / 1e6:+.1f} s off what the clocks of a quorum say: "
            "mend it (chrony, or another NTP); until then it leaves the ordering to others"
        )
    if clocks.ahead_us > clocks.bound_us:
        return (
            f"the ring's time is {clocks.ahead_us / 1e6:.1f} s ahead of the clocks of a quorum: "
            "run `ringcast clock reset` once they are right"
        )
    return None


def checks(shell: Shell) -> Checks:
    """What `/readyz?verbose` lists."""
    core = shell.core
    heard, quorum = connected(core), majority(core.members)
    member = "removed" if core.removed else "waits to be added" if core.outside else None
    return {
        "disk": "no space (D5)" if core.disk_full else None,
        "log": "damaged records are being repaired (D6)" if core.damage else None,
        "folder": told(shell.asides.found) if any(one.pending for one in shell.asides.found) else None,
        "memory": "wiped: no vote until it is readmitted (V0)" if core.stable.wiped else None,
        "membership": member,
        "quorum": None if heard >= quorum else f"hears {heard} of {len(core.members)} members, needs {quorum}",
        "ring": None if core.runs else "takes no turns in the installed view",
        "links": broken_links(core),
        "staying": "leaving (V11)" if shell.leaving else None,
    }


class ShellMetrics(Collector):
    """Read from the shell when asked for; nothing is counted twice."""

    def __init__(self, shell: Shell, security: Security | None, settings: Mapping[str, float]) -> None:
        self._shell = shell
        self._settings = settings
        self._security = security
        self._labels = {"ring": str(shell.config.ring), "member": str(shell.config.id)}

    def collect(self) -> Iterable[Metric]:
        """Every metric, labelled with ring and member."""
        shell, labels = self._shell, self._labels
        yield from self._standing()
        yield from self._space()
        yield self._links()
        yield from self._queues()
        yield from self._counts()
        for name, text, histogram in (
            ("publish_seconds", "From a client's PUBLISH to its receipt, a batch", shell.timings.publish),
            ("stable_seconds", "From a slot's way to this disk until a quorum has it", shell.timings.stable),
            (
                "deliver_seconds",
                "From a slot's ordering (the holder's clock) until it is applied",
                shell.timings.deliver,
            ),
            ("token_rotation_seconds", "Between two turns of this member", shell.timings.rotation),
            ("sync_seconds", "A synced commit or a flush of the journal", shell.timings.sync),
        ):
            yield histogram.family(name, text, labels)
        yield from disk_space(labels, shell.config.data)
        if shell.retained.scrubber is not None:
            yield from shell.retained.scrubber.metrics(labels)

    def _standing(self) -> Iterator[Metric]:
        shell = self._shell
        status = shell.core.status()
        view = status.view
        applied = shell.machine.topics.applied
        ahead = [peer.status.commit for member in shell.core.others if (peer := shell.core.peer(member)).status]
        yield from gauges(
            self._labels,
            {
                "ready": ("1 if /readyz says yes", int(shell.unready() is None)),
                "in_quorum": ("1 if this member can acknowledge now", int(status.in_quorum)),
                "members": ("members of the present configuration", len(status.members)),
                "view": ("counter of the installed view", view.number.counter if view else 0),
                "ring_members": ("members in the ring of the installed view", len(view.ring) if view else 0),
                "holds_token": ("1 if it is this member's turn", int(status.holds_token)),
                "suspects": ("members of the ring that it does not hear", len(status.suspects)),
                "log_end_slots": ("slots in the log", status.end),
                "committed_slots": ("slots that are committed", status.commit),
                "applied_slots": ("slots that are applied", applied),
                "lag_slots": (
                    "committed slots that a peer told of and that are not applied",
                    max([applied, *ahead]) - applied,
                ),
                "log_first_slot": ("first slot that is kept", shell.store.bounds()[0]),
                "next_offset": ("messages delivered here, ever", shell.machine.topics.next_offset),
                "folders_set_aside": (
                    "folders that were set aside and are still there",
                    len(shell.asides.found),
                ),
                "log_whole": ("1 if all that retention promises is here, undamaged (C3)", int(status.whole)),
                "log_missing_slots": (
                    "retained slots that are still to be fetched from others, as far as is known",
                    max(0, status.first - status.missing_from) if status.missing_from is not None else 0,
                ),
                "log_damaged_slots": (
                    "damaged slots that are still to be fetched from others",
                    sum(last - first + 1 for first, last in status.holes),
                ),
                "disk_full": ("1 while there is no space (D5)", int(status.disk_full)),
                "possible_loss": ("1 after `recover --accept-loss`", int(status.possible_loss)),
            },
        )
        clocks, me = status.clocks, shell.config.id
        yield from gauges(
            self._labels,
            {
                "clock_offset_seconds": (
                    "this member's wall clock less what the clocks of a quorum say; 0 while they are not known (D7)",
                    clocks.offsets_us.get(me, 0) / 1e6,
                ),
                "clock_known": ("1 if the clocks of a quorum are known here", int(clocks.quorum_us is not None)),
                "clock_beyond_bound": ("1 if the offset is beyond `clock_bound_ms`", int(me in clocks.beyond)),
                "ring_time_ahead_seconds": (
                    "how far the last slot's time is ahead of what the clocks of a quorum say",
                    clocks.ahead_us / 1e6,
                ),
            },
        )

    def _space(self) -> Iterator[Metric]:
        space: Mapping[str, Any] = self._shell.space()
        texts = {
            "log_bytes": "bytes of the log on disk, index included",
            "log_bytes_max": "the log is never larger, by the settings",
            "log_held_bytes": "bytes beyond `retention_bytes` that a member which lags holds back (C2)",
            "retention_bytes": "as configured",
            "file_bytes": "the database file, which never shrinks",
            "file_free_bytes": "of them, pages that hold nothing (`ringcast compact`)",
            "snapshot_files_bytes": "the snapshots that are kept",
        }
        yield from gauges(self._labels, {name: (text, space[name]) for name, text in texts.items()})

    def _links(self) -> Metric:
        status = self._shell.core.status()
        text = "1 if this member hears that one, and is heard by it as far as it says"
        family = GaugeMetricFamily("ringcast_peer_heard", text, labels=[*self._labels, "peer"])
        for member in status.members:
            if member != status.member:
                heard = member not in {*status.unheard, *status.unheard_by}
                family.add_metric([*self._labels.values(), str(member)], int(heard))
        return family

    def _queues(self) -> Iterator[Metric]:
        shell, gateway = self._shell, self._shell.gateway
        intake = gateway.intake if gateway is not None else None
        yield from gauges(
            self._labels,
            {
                "clients": ("connected clients", gateway.connections if gateway else 0),
                "peers_connected": (
                    "peers whose connection stands",
                    len(shell.transport.connected) if shell.transport else 0,
                ),
                "pending_batches": ("client batches without a verdict", len(intake) if intake is not None else 0),
                "pending_bytes": ("their bytes", intake.bytes if intake is not None else 0),
                "queued_batches": (
                    "of them, those that wait for room in the ring (A9)",
                    intake.queued if intake else 0,
                ),
                "own_requests": ("requests of this member that are not delivered", len(shell.core.own)),
                "own_requests_bytes": ("their bytes", shell.core.own.size),
                "writer_backlog_bytes": ("bytes that wait for the disk", shell.disk.backlog_bytes),
            },
        )

    def _counts(self) -> Iterator[Metric]:
        shell, labels = self._shell, self._labels
        parts = (("transport", shell.transport), ("gateway", shell.gateway), ("feed", shell.feed))
        groups: dict[str, Mapping[str, float]] = {"shell": shell.counters, "settings": self._settings}
        groups |= {name: part.counters for name, part in parts if part is not None}
        if self._security is not None:
            groups["security"] = self._security.all_counters()
        yield events(labels, groups)
        yield dropped(labels, groups)
        timings, gateway = shell.timings, groups.get("gateway", {})
        frames = [(direction, of) for direction, of in (("sent", timings.sent), ("received", timings.received))]
        rows = [((direction, kind.__name__.lower()), count) for direction, of in frames for kind, count in of.items()]
        yield by_name(
            "peer_frames", "Frames between members, by direction and kind", labels, ("direction", "kind"), rows
        )
        journal, disk = shell.disk.journaled, shell.disk.counts
        yield from counters(
            labels,
            {
                "view_changes": ("views that this member installed", shell.counters["fact_view_installed"]),
                "elections": ("views that this member proposed", shell.counters["fact_view_proposed"]),
                "nacks_sent": ("NACKs: what this member missed (A8)", timings.sent[Nack]),
                "nacks_received": ("NACKs of others", timings.received[Nack]),
                "messages": ("messages delivered here since the start", shell.counters["messages"]),
                "slots": ("slots delivered here since the start", shell.counters["slots"]),
                "deduplicated_batches": ("batches that were applied before (K1)", gateway.get("deduplicated", 0)),
                "refused_batches": ("batches that were refused with a typed error", gateway.get("refused", 0)),
                "disk_commits": ("Group commits", disk.commits),
                "disk_written_bytes": ("Group commits: bytes", disk.written_bytes),
                "disk_commit_seconds": ("Group commits: time inside", disk.commit_seconds),
                "journal_commits": ("Records of the journal", journal.commits),
                "journal_written_bytes": ("Records of the journal: bytes", journal.written_bytes),
                "journal_commit_seconds": ("Records of the journal: time inside", journal.commit_seconds),
            },
        )
