"""State of domains at agreed positions: comparing it now, fresh domains from clean images later.

In:     state parts of local domains, digests of all domains.
Out:    digests per domain and point.
Owns:   hashing of parts as they come; no part is kept.
Never:  interprets a part; holds a whole state in memory.
Source: SPARE §4.5; design "Proactive recovery".
"""
