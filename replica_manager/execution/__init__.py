"""Ordered requests to the domains, and their answers back.

In:     accepted requests in sequence order, stable updates, frames of domains.
Out:    feed frames, outcomes (reply, update) per sequence number.
Owns:   the request log, one feed per local domain, the host side of the wrapper protocol.
Never:  interprets a payload; counts votes; decides roles.
Source: SPARE §4.3.1; design "Execution and voting", "One feed per domain".
"""
