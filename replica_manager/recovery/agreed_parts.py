"""Reading the parts of a state that is voted on, and what becomes of who gave others: the same for every use.

Source: design "Lightweight", step 3; "Repair".
"""

from replica_manager.cell.cell_state import CellState
from replica_manager.cell.entries import Convicted, encode_entry
from replica_manager.core_output import CoreOutput, NamedEvent, PartWanted
from replica_manager.identifiers import server_of
from replica_manager.peer_messages import FetchPart, Part
from replica_manager.recovery.filling import Filling
from replica_manager.recovery.state_vote import StateVote


def convict(vote: StateVote, cell: CellState, output: CoreOutput) -> None:
    """Have everybody retired who gave something else than what is agreed."""
    point = vote.point.point
    for domain in vote.dissenters():
        if cell.is_counted(domain):
            entry = Convicted(domain, point, f"its state at {point} differs", cell.sequence)
            output.proposals.append(encode_entry(entry))


def ask_for_parts(filling: Filling, server: int, output: CoreOutput) -> None:
    """Ask for what `filling` wants now: the disk of this server, or the one whose domain gave it."""
    for index, giver in filling.wanted():
        if int(server_of(giver)) == server:
            output.parts_wanted.append(PartWanted(filling.point, giver, index, None))
        else:
            output.sends.append((int(server_of(giver)), FetchPart(filling.point, giver, index)))


def take_part(filling: Filling, part: Part, output: CoreOutput) -> bool:
    """Take a part that was asked for; return whether it is the voted one, else the next copy is asked."""
    if filling.take(part.index, part.data):
        return True
    # Not what its domain gave: the disk that kept it is to blame, or its size is not what it was.
    data = {"point": part.point, "domain": part.domain, "part": part.index}
    output.events.append(NamedEvent("state_part_damaged", data))
    filling.change_giver()
    return False
