"""When equal votes do not come: notice it, find more voters, name who is at fault, return to normal.

In:     what voting finds, rounds and role changes of the cell state, the time.
Out:    entries (`Stalled`, `Offer`, `Convicted`, `Suspected`, `Promote`, `Demote`), votes and notices sent again.
Owns:   stall clocks, the decision to stall, offers, the plan of roles; whom this server fences, and when.
Never:  changes a role itself: only an ordered entry does; destroys a domain on suspicion alone.
Source: SPARE §4.4; design "Fault handling".
"""
