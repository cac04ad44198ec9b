"""The smallest state machine with what a real one has: reads and conditions, sessions (R19), refusals as answers."""

from typing import Any

from ringcast.errors import BadFrame
from ringcast.strict import Plain, dumps, loads

SIZE_MAX = 1 << 20


class Register:
    """Keys and values, and of each client the last command with its answer."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self.sessions: dict[int, tuple[int, bytes]] = {}

    def copy(self) -> "Register":
        """Another one with the same content."""
        other = Register()
        other.values = dict(self.values)
        other.sessions = dict(self.sessions)
        return other

    def apply(self, command: bytes) -> bytes:
        """Carry out (client, sequence, what, key, ...) once; a command that makes no sense is answered too."""
        try:
            fields = loads(command, SIZE_MAX)
        except BadFrame:
            return dumps("refused")
        if type(fields) is not tuple or len(fields) < 4:
            return dumps("refused")
        client, sequence = fields[:2]
        last, answer = self.sessions.get(client, (0, b""))
        if sequence <= last:
            return answer if sequence == last else dumps("refused")
        answer = dumps(self._carry_out(*fields[2:]))
        self.sessions[client] = (sequence, answer)
        return answer

    def _carry_out(self, what: str, key: str, *values: Any) -> Plain:
        if what == "write" and len(values) == 1:
            self.values[key] = values[0]
            return True
        if what == "cas" and len(values) == 2:
            old, new = values
            done: bool = self.values.get(key, 0) == old
            if done:
                self.values[key] = new
            return done
        if what == "read" and not values:
            return self.values.get(key, 0)
        return "refused"

    def dump(self) -> bytes:
        """All of it."""
        return dumps((tuple(sorted(self.values.items())), tuple((c, *s) for c, s in sorted(self.sessions.items()))))

    @classmethod
    def load(cls, data: bytes) -> "Register":
        """What `dump` gave."""
        values, sessions = loads(data, SIZE_MAX)
        machine = cls()
        machine.values = dict(values)
        machine.sessions = {client: (sequence, answer) for client, sequence, answer in sessions}
        return machine
