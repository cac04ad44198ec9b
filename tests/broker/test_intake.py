"""broker/intake.py: nothing pending is lost or doubled, and the books are right after any sequence of events."""

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from broker.intake import Account, Intake, IntakeLimits
from ringcast.bus.request import decode_batch_headers
from ringcast.errors import WindowExceeded
from ringcast.wire import Publish

LIMITS = IntakeLimits(
    credit_bytes=300, credit_bytes_min=100, total_bytes_max=1_000, outstanding_max=5, request_bytes_max=150
)


class IntakeMachine(RuleBasedStateMachine):
    """Clients publish in order, fail over, get verdicts; requests are taken whenever there is room."""

    accounts = Bundle("accounts")

    def __init__(self) -> None:
        super().__init__()
        self.intake = Intake(LIMITS)
        self.known: list[Account] = []
        self.next: dict[bytes, int] = {}
        self.waiting: list[tuple[bytes, int]] = []
        self.submitted: list[tuple[bytes, int]] = []
        self.ever: set[tuple[bytes, int]] = set()

    @rule(target=accounts, client=st.integers(1, 3))
    def connect(self, client: int) -> Account:
        account = Account(b"route", bytes([client]) * 16, self.intake.grant(0, 1))
        self.known.append(account)
        return account

    @rule(account=accounts, size=st.integers(1, 200))
    def publish(self, account: Account, size: int) -> None:
        if account.closed:
            return
        sequence = self.next.get(account.client, 1)
        count, outstanding = account.count, account.bytes
        error = self.intake.accept(account, Publish("a", account.client, sequence, 1, 0), bytes(size))
        if error is None:
            self.next[account.client] = sequence + 1
            self.waiting.append((account.client, sequence))
            assert count == 0 or (outstanding + size <= account.credit and count < LIMITS.outstanding_max)
        else:
            assert isinstance(error, WindowExceeded)

    @rule(room=st.integers(0, 500))
    def take(self, room: int) -> None:
        for frames in self.intake.take_requests(room):
            headers = decode_batch_headers(frames[0])
            sizes = list(map(len, frames[1:]))
            assert len(headers) == len(sizes) >= 1
            assert len(sizes) == 1 or sum(sizes) <= min(LIMITS.request_bytes_max, room)
            room -= sum(sizes)
            for header in headers:
                key = (header.client, header.sequence)
                assert key == self.waiting.pop(0), "in the order of arrival"
                assert key not in self.ever, "submitted once"
                self.submitted.append(key)
                self.ever.add(key)

    @rule(data=st.data())
    def verdict(self, data: st.DataObject) -> None:
        if self.submitted:
            key = self.submitted.pop(data.draw(st.integers(0, len(self.submitted) - 1)))
            assert self.intake.waits_for(*key)
            account = self.intake.finish(*key)
            assert account is None or (account.client == key[0] and not account.closed)
            assert self.intake.finish(*key) is None

    @rule(account=accounts)
    def close(self, account: Account) -> None:
        if account.closed:
            return
        queued = {(b.header.client, b.header.sequence) for b in self.intake._queued if b.account is account}
        self.intake.close(account)
        self.waiting = [key for key in self.waiting if key not in queued]

    @rule()
    def abandon(self) -> None:
        assert sorted(sequence for _, sequence in self.intake.abandon()) == sorted(
            sequence for _, sequence in self.waiting + self.submitted
        )
        self.waiting.clear()
        self.submitted.clear()

    @invariant()
    def books_are_right(self) -> None:
        pending = list(self.intake._pending.values())
        assert {(b.header.client, b.header.sequence) for b in pending} == {*self.waiting, *self.submitted}
        assert self.intake.bytes == sum(batch.size for batch in pending)
        assert [(b.header.client, b.header.sequence) for b in self.intake._queued] == self.waiting
        for account in self.known:
            mine = [batch for batch in pending if batch.account is account]
            assert (account.bytes, account.count) == (sum(b.size for b in mine), len(mine))


TestIntake = IntakeMachine.TestCase


def test_credit_is_a_share_within_bounds() -> None:
    """A9: the default for few clients, a share for many, never less than the least."""
    intake = Intake(IntakeLimits(credit_bytes=100, credit_bytes_min=10, credit_bytes_max=200, total_bytes_max=1_000))
    assert [intake.grant(0, n) for n in (1, 10, 20, 1_000)] == [100, 100, 50, 10]
    assert [intake.grant(wanted, 1) for wanted in (50, 1_000, 1)] == [50, 200, 10]
