"""A network of faulty links: loss, duplication, reordering, delay, blocked directions, and a connection monitor."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

Frame = TypeVar("Frame")
Link = tuple[int, int]  # (from, to)


@dataclass(slots=True)
class Weather:
    """How the links are at the moment. Shares of frames; delays in us."""

    loss: float = 0.0
    duplication: float = 0.0
    slow: float = 0.0
    delay: int = 80
    spread: int = 150
    slow_spread: int = 30_000


class Network(Generic[Frame]):
    """Decides when, how often and whether a frame arrives. A blocked link drops frames or holds them."""

    def __init__(self, random: Random, weather: Weather) -> None:
        self._random = random
        self.weather = weather
        self.blocked: dict[Link, int] = {}  # how many faults block the direction
        self.stalled: dict[Link, int] = {}  # until when a direction keeps its frames back, which then come together
        self.holding = False
        self.held: list[tuple[int, int, Frame]] = []

    def arrivals(self, sender: int, receiver: int, frame: Frame) -> Iterator[int]:
        """Delays in us after which the frame arrives: none, one or two."""
        if self.blocked and (sender, receiver) in self.blocked:
            if self.holding:
                self.held.append((sender, receiver, frame))
            return
        weather = self.weather
        draw = self._random.random()
        if draw < weather.loss:
            return
        draw -= weather.loss
        delay = weather.delay + int(self._random.random() * weather.spread)
        if draw < weather.slow:
            delay += int(self._random.random() * weather.slow_spread)
        elif draw < weather.slow + weather.duplication:
            yield delay + int(self._random.random() * weather.slow_spread)
        yield delay

    def stall(self, link: Link, until: int) -> None:
        """TCP sends again, or the connection is yet to be made: nothing is lost, but what is sent until then waits."""
        self.stalled[link] = max(until, self.stalled.get(link, 0))

    def kept_back(self, sender: int, receiver: int, now: int, delay: int) -> int:
        """The delay of a frame that is sent now and would take `delay`."""
        return max(delay, self.stalled.get((sender, receiver), 0) - now)

    def block(self, links: Iterable[Link]) -> None:
        """Cut directions."""
        for link in links:
            self.blocked[link] = self.blocked.get(link, 0) + 1

    def unblock(self, links: Iterable[Link]) -> None:
        """Take one cut away from each direction."""
        for link in links:
            count = self.blocked.get(link, 0) - 1
            if count > 0:
                self.blocked[link] = count
            else:
                self.blocked.pop(link, None)

    def heal(self) -> None:
        """Every link works, fair weather."""
        self.blocked.clear()
        self.stalled.clear()
        self.weather = Weather()

    def release(self) -> list[tuple[int, int, Frame]]:
        """Frames that were held and whose link works again: stale by now, as after a long delay (F8)."""
        free = [frame for frame in self.held if frame[:2] not in self.blocked]
        self.held = [frame for frame in self.held if frame[:2] in self.blocked]
        return free

    def connected(self, one: int, other: int) -> bool:
        """Whether a connection between two could be made: both directions work."""
        return (one, other) not in self.blocked and (other, one) not in self.blocked
