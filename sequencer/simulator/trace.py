"""A readable trace of one seed, made only when asked for; and a digest of every run, to show that a seed replays."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass

from sequencer.messages import Broadcast, Chains, Records, Retransmit, SnapshotChunk, Token
from sequencer.output import AppendRecord, Event, Output, Persist, Persisted, Received, RepairRecord, SaveStable
from sequencer.types import Entry, Request, Sequence, SlotRecord, StableState, View, ViewNumber

MASK = (1 << 64) - 1


class TraceDigest:
    """64 bits over what happened, in order; independent of the hash seed of the process."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0xCBF29CE484222325

    def mix(self, time: int, member: int, what: int) -> None:
        """Add one happening."""
        value = (self.value ^ time) * 0x100000001B3 & MASK
        self.value = (value ^ (member << 40) ^ what) * 0x100000001B3 & MASK


class Trace:
    """Lines "time member text" handed to `write`."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def line(self, now: int, member: int, text: str) -> None:
        """One happening."""
        self._write(f"{now / 1_000_000:10.6f}  {member or '-'}  {text}")

    def step(self, now: int, member: int, events: list[Event], output: Output) -> None:
        """One step: what went in, what came out."""
        for event in events:
            self.line(now, member, f"<- {show_event(event)}")
        for persist in output.persists:
            self.line(now, member, f"   persist {output.ticket}: {show_persist(persist)}")
        for to, message, cluster in output.sends:
            blank = " as blank" if not cluster else ""
            self.line(now, member, f"   -> {'all' if to is None else to}{blank} {show(message)}")
        for serve in output.serves:
            self.line(now, member, f"   {show(serve)}")
        for record in output.delivers:
            self.line(now, member, f"   deliver {show(record)}")
        for fact in output.facts:
            self.line(now, member, f"   fact {fact.name} {' '.join(f'{k}={show(v)}' for k, v in fact.fields.items())}")
        if output.halt or output.restart:
            self.line(now, member, f"   halt {output.halt or 'for a restart'}")


def show_event(event: Event) -> str:
    """An event in one line."""
    if isinstance(event, Received):
        return f"{event.sender}.{event.incarnation.counter} {show(event.message)}"
    if isinstance(event, Persisted):
        return f"persisted {event.ticket}"
    return show(event)


def show_persist(persist: Persist) -> str:
    """A write in one line."""
    if isinstance(persist, AppendRecord | RepairRecord):
        return f"{type(persist).__name__} {show(persist.record)}"
    if isinstance(persist, SaveStable):
        return f"{show(persist.state)} commit={persist.commit}"
    return show(persist)


def show(value: object) -> str:
    """A value of the protocol, short."""
    match value:
        case ViewNumber(counter, proposer):
            return f"v{counter}.{proposer}"
        case View():
            return (
                f"View({show(value.number)} ring={value.ring} of={value.members} source={value.source} "
                f"base={value.base} learners={[learner.member for learner in value.learners]} {value.chain.hex()[:6]})"
            )
        case Entry():
            return f"{value.sender}.{value.incarnation.counter}:{value.first_lsn}..{value.last_lsn}"
        case Sequence():
            entries = ",".join(map(show, value.entries))
            return f"#{value.slot}@{show(value.view)}[{entries}]{value.chain.hex()[:6]}"
        case SlotRecord():
            return show(value.sequence)
        case Request():
            return f"{value.sender}.{value.incarnation.counter}:{value.lsn}"
        case StableState():
            return (
                f"Stable(promised={show(value.promised)} log_view={show(value.log_view)} "
                f"announced={show(value.announced)} incarnation={value.incarnation.counter} "
                f"cluster={value.cluster & 0xFFFF:x} wiped={value.wiped})"
            )
        case Broadcast():
            status = value.status
            acknowledged = (
                f"ACK({show(status.view)}{'' if status.runs else ' idle'} promised={show(status.promised)} "
                f"stored={status.stored} commit={status.commit} hop={status.accepted_hop} lsn={status.newest_lsn} "
                f"heard={status.heard:b}{' wiped' if status.wiped else ''}{' leaving' if status.leaving else ''})"
            )
            parts = [acknowledged]
            parts += [f"REQUEST {show(request)}" for request in value.requests]
            parts += [f"SEQUENCE {show(sequence)}" for sequence in value.sequences]
            return " ".join(parts)
        case Token():
            return f"TOKEN({show(value.view)} hop={value.hop} slot={value.slot} commit={value.commit})"
        case Retransmit() | Records():
            records = value.records
            extra = f" {len(value.requests)} requests" if isinstance(value, Retransmit) else f" from {value.first}"
            return f"{type(value).__name__}({show(value.view)}{extra} records={' '.join(map(show, records))})"
        case Chains():
            return f"Chains({show(value.view)} first={value.first} count={len(value.chains)})"
        case SnapshotChunk():
            return f"SnapshotChunk({value.snapshot} slot={value.slot} {value.index}/{value.count})"
        case bytes():
            return value.hex()[:8]
        case tuple() if not hasattr(value, "_fields"):
            return f"({' '.join(map(show, value))})"
        case _:
            pass
    names = getattr(value, "_fields", None) or ([f.name for f in fields(value)] if is_dataclass(value) else None)
    if names is None:
        return repr(value)
    return f"{type(value).__name__}({' '.join(f'{name}={show(getattr(value, name))}' for name in names)})"
