"""What all replica managers agree on, as a pure function of the agreed sequence.

In:     entries in agreed order (`apply`).
Out:    effects: what this entry means for execution, roles and membership.
Owns:   members, `f'`, `T`, roles, timestamps, the agreed half of the client table, rounds, points at
        which states are given, proactive recoveries, progress of servers.
Never:  reads what only one server knows (votes, stability, clocks, counts of updates); touches I/O.
Source: SPARE §4.2.4, §4.4; design "The replicated cell state".
"""
