"""Believe only what enough domains say.

In:     votes (domain, sequence number, digest), the threshold `T` and `f'`.
Out:    an outcome per sequence number.
Owns:   counting; the rule that a domain has one vote per number.
Never:  looks at values, roles' history, clocks.
Source: SPARE §4.3.2, §4.8.3; design "Execution and voting".
"""
