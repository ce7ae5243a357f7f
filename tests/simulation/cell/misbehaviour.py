"""What a faulty domain does: one kind of misbehaviour each, everything else of it stays as it was.

A domain reaches nothing but its own manager, so these are frames, or their absence.  Two different votes of one domain
for a number are not among them: a manager takes one answer for each `Execute`, and managers are trusted.  (Scenario
tests equivocate at the voter.)
"""

import random

from exec_wrapper.wire import (
    Applied,
    Execute,
    Executed,
    Failed,
    FromWrapper,
    NextPart,
    Ping,
    Pong,
    SetPart,
    StatePart,
    StateSet,
    Synced,
    ToWrapper,
    WrapperHello,
)

ENDLESS_PART_US = 60_000
"""Between two parts of a state that never ends."""


class Misbehaviour:
    """A domain that is as it should be; kinds change a part of this."""

    is_fatal = False
    """Whether its connection ends at its next answer: what came was no frame."""

    def __init__(self, draw: random.Random) -> None:
        """Begin to misbehave."""
        self.draw = draw

    def hello(self, honest: WrapperHello) -> WrapperHello | None:
        """Return the first frame; None: there is none."""
        return honest

    def answer(self, frame: ToWrapper, honest: list[FromWrapper]) -> list[FromWrapper]:
        """Return what it says to `frame` instead of what is right."""
        return [said for right in honest for said in self.say(frame, right)]

    def say(self, frame: ToWrapper, right: FromWrapper) -> list[FromWrapper]:
        """Return what it says instead of one right answer."""
        return [right]

    def delay_us(self, frame: ToWrapper) -> int:
        """Return how much longer it takes for this frame, and so for all behind it."""
        return 0


class WrongReply(Misbehaviour):
    """Lies about what it did; two such domains lie alike."""

    def say(self, frame: ToWrapper, right: FromWrapper) -> list[FromWrapper]:
        """Lie."""
        return [right._replace(reply=b"lie")] if isinstance(right, Executed) else [right]


class WrongUpdate(Misbehaviour):
    """Replies rightly, and would have the sleepers apply something else."""

    def say(self, frame: ToWrapper, right: FromWrapper) -> list[FromWrapper]:
        """Change the update."""
        if isinstance(right, Executed) and right.update:
            return [right._replace(update=right.update + b"~")]
        return [right]


class HiddenUpdate(Misbehaviour):
    """Hides some of its writes."""

    def say(self, frame: ToWrapper, right: FromWrapper) -> list[FromWrapper]:
        """Drop every other update."""
        if isinstance(right, Executed) and right.update and self.draw.random() < 0.5:
            return [right._replace(update=b"")]
        return [right]


class Silence(Misbehaviour):
    """Says nothing any more."""

    def answer(self, frame: ToWrapper, honest: list[FromWrapper]) -> list[FromWrapper]:
        """Say nothing."""
        return []


class Stall(Misbehaviour):
    """Takes seconds for an answer now and then."""

    def delay_us(self, frame: ToWrapper) -> int:
        """Draw."""
        return self.draw.randrange(200_000, 9_000_000) if self.draw.random() < 0.2 else 0


class OmittedAnswer(Misbehaviour):
    """Leaves a request out now and then and goes on behind it."""

    def say(self, frame: ToWrapper, right: FromWrapper) -> list[FromWrapper]:
        """Draw."""
        return [] if isinstance(right, Executed) and self.draw.random() < 0.2 else [right]


class Flood(Misbehaviour):
    """Sends what nobody asked for."""

    def answer(self, frame: ToWrapper, honest: list[FromWrapper]) -> list[FromWrapper]:
        """Add one of many frames."""
        number = getattr(frame, "sequence", 7)
        unasked: list[FromWrapper] = [
            Executed(number, b"again", b""),
            Executed(number + 3, b"ahead", b""),
            Applied(number),
            Synced(number + 1000),
            StatePart(number, 0, True, b"k0 v"),
            StateSet(number),
            Pong(77),
            WrapperHello(bytes(16), number, 1, True, "again", "1", "again"),
        ]
        return [*honest, self.draw.choice(unasked)]


class Garbage(Misbehaviour):
    """Sends bytes that are no frame: its connection ends."""

    is_fatal = True


class GivesUp(Misbehaviour):
    """Its wrapper says that the service broke."""

    def answer(self, frame: ToWrapper, honest: list[FromWrapper]) -> list[FromWrapper]:
        """Give up."""
        return [Failed("the service broke")]


class WrongApplied(Misbehaviour):
    """Confirms what it was not handed."""

    def say(self, frame: ToWrapper, right: FromWrapper) -> list[FromWrapper]:
        """Claim more."""
        if isinstance(right, Applied):
            return [Applied(right.up_to + 1)]
        return [Synced(right.cursor + 5)] if isinstance(right, Synced) else [right]


class WrongState(Misbehaviour):
    """Gives another state than its own."""

    def say(self, frame: ToWrapper, right: FromWrapper) -> list[FromWrapper]:
        """Change every part."""
        return [right._replace(data=right.data + b"\nkx y")] if isinstance(right, StatePart) else [right]


class ShortState(Misbehaviour):
    """Ends its state early."""

    def say(self, frame: ToWrapper, right: FromWrapper) -> list[FromWrapper]:
        """End with the first part."""
        if not isinstance(right, StatePart):
            return [right]
        return [right._replace(is_last=True)] if right.index == 0 else []


class HalfState(Misbehaviour):
    """Stops giving its state half-way."""

    def say(self, frame: ToWrapper, right: FromWrapper) -> list[FromWrapper]:
        """Give two parts."""
        return [] if isinstance(right, StatePart) and right.index >= 2 else [right]


class EndlessState(Misbehaviour):
    """Never ends its state."""

    def __init__(self, draw: random.Random) -> None:
        """Begin to misbehave."""
        super().__init__(draw)
        self._given = StatePart(0, 0, True, b"")

    def answer(self, frame: ToWrapper, honest: list[FromWrapper]) -> list[FromWrapper]:
        """Give as many parts as are asked for, and never the last one."""
        said = super().answer(frame, honest)
        missing = frame.count - len(said) if isinstance(frame, NextPart) else 0
        for _ in range(missing):
            self._given = self._given._replace(index=self._given.index + 1)
            said.append(self._given)
        return said

    def say(self, frame: ToWrapper, right: FromWrapper) -> list[FromWrapper]:
        """Leave the end flag out."""
        if isinstance(right, StatePart):
            self._given = right._replace(is_last=False)
            return [self._given]
        return [right]

    def delay_us(self, frame: ToWrapper) -> int:
        """Slowly, for the simulation's sake."""
        return ENDLESS_PART_US if isinstance(frame, NextPart) else 0


class NeverHello(Misbehaviour):
    """Boots, and its wrapper never says anything."""

    def hello(self, honest: WrapperHello) -> WrapperHello | None:
        """Say nothing."""
        return None


class WrongHello(Misbehaviour):
    """Claims to be where nobody is."""

    def hello(self, honest: WrapperHello) -> WrapperHello | None:
        """Claim."""
        return honest._replace(cursor=self.draw.choice((0, 2, 1_000_000)))


class HangsInSetState(Misbehaviour):
    """Does not take its state in."""

    def answer(self, frame: ToWrapper, honest: list[FromWrapper]) -> list[FromWrapper]:
        """Take one part in, if any."""
        is_stuck = isinstance(frame, SetPart) or (isinstance(frame, Ping) and frame.token > 0)
        return [] if is_stuck else honest


class WrongStateSet(Misbehaviour):
    """Says that it holds another state than it was to take in."""

    def say(self, frame: ToWrapper, right: FromWrapper) -> list[FromWrapper]:
        """Say so."""
        return [StateSet(right.point + 1)] if isinstance(right, StateSet) else [right]


class DiesOf(Misbehaviour):
    """Ends when it executes anything."""

    def answer(self, frame: ToWrapper, honest: list[FromWrapper]) -> list[FromWrapper]:
        """Die."""
        self.is_fatal = isinstance(frame, Execute)
        return honest


KINDS: dict[str, tuple[type[Misbehaviour], ...]] = {
    "votes": (WrongReply, WrongUpdate, HiddenUpdate),
    "silence": (Silence, Stall, OmittedAnswer),
    "frames": (Flood, Garbage, GivesUp, WrongApplied),
    "states": (WrongState, ShortState, HalfState, EndlessState),
    "deaths": (DiesOf,),
}
"""Classes of misbehaviour of a domain that serves, switched on or off together."""

FRESH_KINDS = (NeverHello, WrongHello, HangsInSetState, WrongStateSet, Silence, Garbage)
"""Of a fresh domain; it fails before it serves."""
