"""What a Raft node raises.

RaftError
├── RaftosMissing        the library is not installed
├── SettingRefused       a setting is out of bounds (also a ValueError)
├── Refused              the command was not proposed: nothing happened, send it to another member or later
│   ├── NotLeader        this member does not lead; `leader` is who does, as far as it knows
│   ├── Overloaded       too much is proposed and not committed
│   └── ChangeRefused    this change of members is not possible now
├── OutcomeUnknown       the command may be in the log or not: repeat it with the same session number
└── TransferFailed       the leadership stayed where it was

A violated invariant is `sequencer.errors.InvariantError`: the node stops and keeps its disk.
"""


class RaftError(Exception):
    """Anything that a Raft node raises."""


class RaftosMissing(RaftError, ImportError):
    """raftos is not installed."""

    def __init__(self) -> None:
        super().__init__("the product store needs raftos: pip install --no-deps raftos==0.2.6")


class SettingRefused(RaftError, ValueError):
    """A setting of RaftConfiguration is out of bounds."""


class Refused(RaftError):
    """The command was not proposed: nothing happened."""


class NotLeader(Refused):
    """This member does not lead."""

    def __init__(self, member: int, leader: int | None) -> None:
        hint = "nobody is known to lead" if leader is None else f"member {leader} does"
        super().__init__(f"member {member} does not lead, {hint}: ask there, or again in a moment")
        self.leader = leader


class Overloaded(Refused):
    """Too much is proposed and not committed."""

    def __init__(self, waiting_bytes: int, limit: int) -> None:
        super().__init__(f"{waiting_bytes} bytes wait for their commit, the limit is {limit}: send again in a moment")
        self.waiting_bytes = waiting_bytes
        self.limit = limit


class ChangeRefused(Refused):
    """This change of members is not possible now. `passes`: by itself, in a moment."""

    def __init__(self, why: str, advice: str, *, passes: bool = False) -> None:
        super().__init__(f"{why}: {advice}")
        self.why = why
        self.advice = advice
        self.passes = passes


class OutcomeUnknown(RaftError):
    """The leader changed, or this member stopped, before the command was answered."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}: the command is in the log or not; repeat it with the same session number")


class TransferFailed(RaftError):
    """The leadership stayed where it was."""
