"""The execution wrapper: the program in a domain between the replica manager and the service.

In:     feed frames (`Execute`, `ApplyUpdates`, `TakeState`, …) from the replica manager over one link.
Out:    `Executed`, `Applied`, `StatePart`, … frames.
Owns:   the wire layout of the internal channel, the session of one connection, the links.
Never:  imports anything but the standard library; needs a Python newer than 3.9; interprets a payload.
Source: SPARE §4.3.1, §4.8; design "Wrapper protocol".
"""
