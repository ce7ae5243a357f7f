"""The agreement stage: crash-tolerant Multi-Paxos as a library without I/O.

In:     entries to be ordered (opaque bytes), messages of other members, timer ticks, "this write is durable".
Out:    one `Output`: durable writes, messages, deliveries (a gap-free sequence of entries), events.
Owns:   ballots, promises, votes, configurations, leader election, at-most-once delivery, the log.
Never:  touches a socket, file, clock, thread, logger or module-level randomness; interprets a payload.
Source: Lamport, "Paxos Made Simple" (2001); Lamport and Massa, "Cheap Paxos" (2004); SPARE §4.2.4.

`node.Node` is a server, `witness.Witness` a witness; both are made by `born`, `recovered` or `amnesiac` (see `birth`).
A message's way through a server: `routing` → `voting` (acceptor), `electing` and `leading` (proposer), `learning` and
`tally` (learner) → `log` (the order) → `output`.  Who votes is in `configuration` and `quorum`; what ends a
configuration in `changes` and `changing`; what witnesses may forget in `releasing`; help for those who lag in
`serving` and `transferring`; the restart of a cell without witnesses in `starting`.
"""
