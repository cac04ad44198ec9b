"""The moments at which an armed crash strikes: the process dies in the middle of just that."""

from sequencer.messages import Broadcast, NewView, Prepare, Promise, Token
from sequencer.output import CutLog, Output, SaveStable, UseSnapshot

# "persisted" is F3, between the sync and the ACK: no output shows it, the member knows it itself.
MOMENTS = ("promise", "prepare", "announce", "token", "sequence", "cut", "snapshot", "stable", "persisted")


def carries(output: Output, kind: str) -> bool:
    """Whether an output holds the moment of this name."""
    match kind:
        case "promise":
            return any(isinstance(send.message, Promise) for send in output.sends)
        case "prepare":
            return any(isinstance(send.message, Prepare) for send in output.sends)
        case "announce":
            return any(isinstance(send.message, NewView) for send in output.sends)
        case "token":
            return any(isinstance(send.message, Token) for send in output.sends)
        case "sequence":
            return any(isinstance(send.message, Broadcast) and send.message.sequences for send in output.sends)
        case "cut":
            return any(isinstance(persist, CutLog) for persist in output.persists)
        case "snapshot":
            return any(isinstance(persist, UseSnapshot) for persist in output.persists)
        case "stable":
            return any(isinstance(persist, SaveStable) for persist in output.persists)
        case _:
            return False
