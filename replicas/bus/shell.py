"""The asyncio shell around the core: collect what happened, one step per loop turn, obey the output in its order (D4).

There is no protocol decision here. What the shell owes the core: events in the order in which they came, waiting input
before timers that are due (V1), the output's instructions in its own order, and tickets back when they are durable.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random, SystemRandom

import structlog

from broker.feed import Feed
from broker.gateway import Gateway, Reply, Standing
from broker.peers import PeerTransport
from replicas.asides import Asides
from replicas.bus.agreement import Agreement
from replicas.bus.config import BusConfig
from replicas.bus.directory import Addresses, Directory, Introduced, Relayed
from replicas.bus.disk import Disk
from replicas.bus.machine import Machine
from replicas.bus.operators import Operators
from replicas.bus.peer_codec import Envelope, encode
from replicas.bus.reads import Reads
from replicas.bus.recovery import Opened, open_store
from replicas.bus.retained import RetainedLog, refusal
from replicas.bus.rows import RowError
from replicas.bus.serving import Served, Serving
from replicas.bus.standing import state_of, status_of, trouble_of
from replicas.bus.topics import TopicBounds, Topics
from replicas.clocks import now_us, wall_us
from replicas.timings import Timings
from ringcast.errors import NotReady, RingcastError
from ringcast.strict import Plain
from ringcast.wire import Fetch, Query
from sequencer import output as o
from sequencer.core import Core
from sequencer.types import Configuration, Incarnation
from store.errors import StoreDamaged, StoreError

#: A timer that comes so late finds a process that was stopped or starved: input first (V1).
LATE_US = 100_000
#: A view change that takes longer has no quorum here.
VIEW_CHANGE_US = 600_000
#: What libzmq's own thread gets to hand over what waits in the kernel's buffers.
CATCH_UP_S = 0.03
INVARIANTS_INTERVAL_S = 1.0
#: What an operator has to look at.
LOUD_FACTS = frozenset({"clock_beyond_bound", "ring_time_ahead", "clock_reset"})
#: Facts that are told for each frame or each rule; the others are worth a line in the log.
QUIET_FACTS = frozenset({"rule", "token_dropped", "nack_over_budget", "frame_refused", "joiner_due", "trimmed_past"})


class Shell:
    """One member of one ring in this process. Made and used on the loop; `on_stop(code, reason)` ends the process."""

    def __init__(self, config: BusConfig, opened: Opened, on_stop: Callable[[int, str], None]) -> None:
        self.config = config
        self.group = config.group_config
        self.bounds = TopicBounds()
        self.log = structlog.get_logger().bind(member=config.id, ring_id=config.ring)
        self.counters: Counter[str] = Counter()
        self.timings = Timings()
        self._on_stop = on_stop
        self._loop = asyncio.get_running_loop()
        self._random = Random(SystemRandom().getrandbits(128))
        self._events: list[o.Event] = []
        self._submitted_bytes = 0  # of requests that wait for the next step
        self._turn_planned = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_us = 1 << 62
        self._served_us = -VIEW_CHANGE_US  # when a question of the gateway last found no trouble
        self._catching_up = False
        self._stopped = False
        self._core_ended = False  # it asked for a restart: no further step of it (sequencer/output.py)
        self._machine: Machine | None = None
        self.leaving = False
        self.asides = Asides(config.data, config.id)
        self.directory = Directory(config)
        self.transport: PeerTransport[o.Received | Introduced] | None = None
        self.gateway: Gateway | None = None
        self.feed: Feed | None = None
        self.reads = Reads(config.id, lambda: self.machine.queries, self._plan_turn, self.unready)
        self.operators = Operators(self.feed_event, lambda: self.core, self.directory, self.unready, self.timings)
        #: For `Links` (V12): a configuration is delivered, whose info says where members are; a peer says where one is.
        self.on_configuration: Callable[[Configuration], None] = lambda _: None
        self.on_introduced: Callable[[Introduced], None] = lambda _: None
        self.agreement = Agreement(config.id, self)
        self.space: Callable[[], Mapping[str, Plain]] = dict  # the disk's part of the status
        self.retained = RetainedLog(self)
        self._begin(opened)

    def _begin(self, opened: Opened) -> None:
        """A core, a writer and a state machine on what the disk said."""
        self._core_ended = False
        self.store = opened.store
        self.verified_from = opened.verified_from
        self.disk = Disk(
            opened.store,
            on_persisted=lambda ticket: self.feed_event(o.Persisted(ticket)),
            on_full=self._disk_full,
            on_freed=self._disk_freed,
            on_failed=self._disk_failed,
            journaling=self.config.durability == "majority",
            observe=self.timings.sync.observe,
        )
        self.core = Core(
            self.group, self.config.id, opened.recovered, self._random, now_us(), SystemRandom().getrandbits(64)
        )
        self.serving = Serving(self._loop, opened.store, self.send_own, self.retained.damage_met)
        self._use_topics(opened.topics)
        newest = next(iter(opened.store.snapshots()), None)
        if newest is not None and newest.slot >= opened.recovered.first:
            self.feed_event(o.SnapshotMade(newest.name, newest.slot, newest.chain, newest.chunks))
        self._plan_turn()

    def _use_topics(self, topics: Topics) -> None:
        if self._machine is not None:
            self._machine.close()
        self._machine = Machine(self._loop, self.disk, topics, self.config.id, self._status, self.agreement)
        self._machine.queries.watch(self.retained.missing, self.retained.damage_met)

    @property
    def machine(self) -> Machine:
        """The state machine on the present log."""
        assert self._machine is not None
        return self._machine

    # ------------------------------------------------------------------ events in

    def feed_event(self, event: o.Event) -> None:
        """Something happened; it is taken by this turn's step."""
        self._events.append(event)
        self._plan_turn()

    def received(self, events: list[o.Received | Introduced]) -> None:
        """Frames of peers, oldest first."""
        for event in events:
            if isinstance(event, Introduced):
                self.on_introduced(event)
                continue
            message = event.message
            self.timings.receives(message, event.sender)
            if refused := refusal(message):
                self.counters[refused] += 1
                continue
            self._events.append(event)
        self._plan_turn()

    def peer_lost(self, member: int) -> None:
        """V1: its connection broke and could not be made again."""
        self.log.info("peer_lost", peer=member)
        self.feed_event(o.PeerLost(member))

    def peer_found(self, member: int) -> None:
        """Its connection stands."""
        self.log.info("peer_found", peer=member)
        self.feed_event(o.PeerFound(member))

    def leave(self) -> None:
        """V11: ask for a view without this member and send the clients to others."""
        self.leaving = True
        self.feed_event(o.LeaveAsked())
        if self.gateway is not None:
            self.gateway.leave("stopping")

    # ------------------------------------------------------------------ the turn

    def _plan_turn(self) -> None:
        # Readers that are ready in the same iteration of the loop run before a callback planned now: one step for all.
        if not self._turn_planned and not self._stopped and not self._core_ended:
            self._turn_planned = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_planned = False
        if self._stopped or self._core_ended:
            return
        now = now_us()
        if now - self._timer_due_us > LATE_US and not self._catching_up:
            # V1: the process was stopped. What its peers sent meanwhile is still in the kernel or in libzmq: a step now
            # would run the timers first and depose a healthy ring.
            self.counters["late_timers"] += 1
            self._catching_up = True
            self._loop.call_later(CATCH_UP_S, self._turn)
            return
        self._catching_up = False
        try:
            self._step(now)
        except (StoreDamaged, RowError) as error:
            self.start_over(str(error))  # as a start that meets it (recovery.py)
        except Exception as error:  # whatever it is, the output of a step was obeyed in part: no further step
            self.log.exception("step_failed")
            self.stop(3, f"a step failed: {error!r}; the disk is as it was, report this with the log")

    def _step(self, now: int) -> None:
        events, self._events = self._events, []
        events += self.reads.take()  # K3: a reader that comes from here on shares a later READ
        self._submitted_bytes = 0
        output = self.core.step(now, wall_us(), events)
        self.counters["steps"] += 1
        for send in output.sends:  # none of them depends on what this step persists (D4), and a peer may sync meanwhile
            self._send(send)
            self.timings.sends(send.message, now)
        if output.persists:
            self._persist(output, now)
        for serve in output.serves:
            self.serving.serve(serve)
        if output.delivers:
            self._deliver(output)
        for ready in output.reads:
            self.reads.ready(ready.nonce, ready.slot)
        self.reads.applied(self.machine.topics.applied)
        for fact in output.facts:
            self._tell(fact)
        if output.configuration is not None:
            self.on_configuration(output.configuration)
        if output.halt:
            self.stop(3, output.halt)
        elif output.restart:
            self._core_ended = True
            self.disk.after(self._restart)
        elif not self._stopped:
            self._arm()

    def _arm(self) -> None:
        """One timer. One that is earlier than needed is left alone: a step without a due timer costs less."""
        due = self.core.deadline()
        if self._timer is not None and self._timer_due_us <= due and self._timer_due_us > now_us():
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due_us = due
        self._timer = self._loop.call_later(max(0, due - now_us()) / 1e6, self._timer_due)

    def _timer_due(self) -> None:
        self._timer = None
        self._plan_turn()

    # ------------------------------------------------------------------ instructions out

    def _persist(self, output: o.Output, now: int) -> None:
        for persist in output.persists:
            self.timings.persisted(persist, now)
        operations = self.retained.operations(output.persists)
        if self.disk.journal(output.ticket, operations):
            return
        resets = any(isinstance(persist, o.UseSnapshot | o.ResetDisk) for persist in output.persists)
        self.disk.submit(output.ticket, operations if resets else self.machine.due_rows() + operations)
        if resets:
            self._replace_state(output)
        else:
            self.retained.submitted(output.persists)

    def flush_rows(self) -> "asyncio.Future[None]":
        """Done when every row of what is applied now is durable."""
        done: asyncio.Future[None] = self._loop.create_future()

        def finish() -> None:
            if not done.done():
                done.set_result(None)

        self.machine.save()
        self.disk.after(finish)
        return done

    def _replace_state(self, output: o.Output) -> None:
        """The log was emptied (V0) or replaced by a snapshot (C1): so is the state machine, and nobody here sees the
        verdicts of what is pending."""
        used = next((persist for persist in output.persists if isinstance(persist, o.UseSnapshot)), None)
        if used is not None:
            self.disk.after(self._open_snapshot)
        else:
            self._use_topics(topics := Topics(self.bounds))
            self.disk.after(lambda: topics.customers.rows.attach(self.store))
        if self.gateway is not None:
            self.gateway.abandon(NotReady(replica=self.config.id, state="catching up"))

    def _open_snapshot(self) -> None:
        self._use_topics(Topics.load(self.bounds, self.store.rows, self.store))
        if self.feed is not None:
            self.feed.jump(self.machine.topics.next_offset)
        topics = self.machine.topics
        senders = tuple(sorted(topics.senders.items()))
        opened = o.SnapshotOpened(topics.applied, topics.chain, topics.time_us, senders, topics.configuration)
        self.feed_event(opened)
        self.on_configuration(topics.configuration)

    def _send(self, send: o.Send) -> None:
        if self.transport is None:
            return
        frames = encode(self._envelope(), send.cluster, send.message)
        if send.to is None:
            self.transport.broadcast(frames)
        else:
            self.transport.send(send.to, frames)

    def send_own(self, to: int, message: Served | Addresses | Relayed) -> None:
        """A frame that the shell itself made (records, chunks, addresses)."""
        if not self._stopped and self.transport is not None:
            self.transport.send(to, encode(self._envelope(), self.core.stable.cluster, message))

    def _envelope(self) -> Envelope:
        return Envelope(self.config.ring, self.config.id, self.core.stable.incarnation)

    def _deliver(self, output: o.Output) -> None:
        self.counters["slots"] += len(output.delivers)
        self.counters["messages"] += self.machine.deliver(output.delivers, self.gateway, self.feed)
        self.timings.delivered(output.delivers, now_us(), wall_us())

    def _tell(self, fact: o.Fact) -> None:
        self.counters[f"fact_{fact.name}"] += 1
        level = "debug" if fact.name in QUIET_FACTS else "warning" if fact.name in LOUD_FACTS else "info"
        getattr(self.log, level)(fact.name, **fact.fields)
        self.operators.tell(fact, self.machine.topics.next_offset)
        self.retained.tell(fact)

    @property
    def configuration(self) -> Configuration:
        """The delivered configuration; FOUNDERS before the first change: then the members are those of the file."""
        return self.machine.topics.configuration

    # ------------------------------------------------------------------ the gateway's questions (gateway.Replica)

    def cluster(self) -> int:
        """The cluster id, 0 while there is none."""
        return self.core.stable.cluster

    def standing(self) -> Standing:
        """For WELCOME and PONG."""
        incarnation: Incarnation = self.core.stable.incarnation
        log_view = self.core.stable.log_view
        return Standing(
            (incarnation.counter, incarnation.nonce),
            (log_view.counter, log_view.proposer),
            self.core.commit,
            self.machine.topics.next_offset,
        )

    def unready(self) -> RingcastError | None:
        """Why nothing can be ordered here now, else None."""
        return trouble_of(self.core, self.asides.found, leaving=self.leaving)

    def trouble(self) -> RingcastError | None:
        """Why nothing is taken in here now; a view change is no reason: V10 publishes what comes meanwhile."""
        found, now = self.unready(), now_us()
        if found is None:
            self._served_us = now
        changes = now - self._served_us < VIEW_CHANGE_US and self.core.takes_part
        return None if changes and not (self.core.disk_full or self.core.removed or self.leaving) else found

    def room(self) -> int:
        """Bytes that may be submitted, less what waits for the next step."""
        return max(0, self.core.room() - self._submitted_bytes)

    def submit(self, frames: tuple[bytes, ...]) -> None:
        """A1: order a request."""
        self._submitted_bytes += sum(map(len, frames))
        self.feed_event(o.Submitted(frames))

    def answer(self, request: Fetch | Query, reply: Reply) -> None:
        """FETCH or QUERY: linearizable after K3, local at once. What the core answers itself needs no read."""
        if not self.operators.take(request, reply):
            self.reads.answer(request, reply)

    # ------------------------------------------------------------------ what humans see

    @property
    def state(self) -> str:
        return state_of(self.core, leaving=self.leaving)

    def _status(self) -> Mapping[str, Plain]:
        return {
            **status_of(self.core, self.config, self.asides.found, leaving=self.leaving),
            **self.space(),
            "scrub": self.retained.scrub_status,
            "connected": self.transport.connected if self.transport else (),
            "clients_connected": self.gateway.connections if self.gateway else 0,
        }

    # ------------------------------------------------------------------ disk trouble, restart, stop

    def _disk_full(self, ticket: int) -> None:
        self.log.error("disk_full", data=str(self.config.data), rule="D5")
        self.feed_event(o.DiskFilled(ticket))

    def _disk_freed(self) -> None:
        self.log.warning("disk_freed", data=str(self.config.data), rule="D5")
        self.feed_event(o.DiskFreed())

    def _disk_failed(self, error: Exception) -> None:
        self.stop(4, f"the disk failed, nothing is written any more (D5): {error}")

    def start_over(self, why: str) -> None:
        """D6: the folder cannot be trusted: set it aside, and come back through the peers."""
        if not self._core_ended:
            self._core_ended = True
            self._restart(why)

    def _restart(self, distrust: str = "") -> None:
        """A repaired, wiped or new disk is read from the start, by a new core (D6, V0)."""
        if self._stopped:
            return
        self.log.warning("core_restarted")
        self.disk.stop(10.0)
        self.store.close()
        self._events.clear()
        self.operators.abandon()
        restarting = NotReady(replica=self.config.id, state="restarting")
        self.reads.abandon(restarting)
        if self.gateway is not None:
            self.gateway.abandon(restarting)
        try:
            opened = open_store(self.config, self.bounds, distrust)
        except StoreError as error:
            self.stop(4, str(error))
            return
        self._begin(opened)
        if self.feed is not None:
            self.feed.jump(self.machine.topics.next_offset)
        if self.transport is not None:
            for member in self.transport.connected:
                self.feed_event(o.PeerFound(member))

    def check_invariants(self) -> None:
        """The core's invariants, for the config flag; a broken one ends the process with the disk as it is."""
        self.core.check_invariants()
        self.machine.recent.check_invariants()

    def stop(self, code: int, reason: str) -> None:
        """No further step; the process ends with `code`."""
        if not self._stopped:
            self._stopped = True
            if self._timer is not None:
                self._timer.cancel()
            self.machine.close()
            self._on_stop(code, reason)

    def close(self, timeout_s: float) -> bool:
        """Write what is queued, mark the clean stop if all of it was, and close the store."""
        self._stopped = True
        self.machine.close()
        if not self.disk.full:
            self.machine.save()
        clean = self.disk.stop(timeout_s)
        if clean:
            self.store.mark_clean_stop()
        self.store.close()
        return clean
