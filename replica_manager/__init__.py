"""The replica manager: the trusted process of one server.

In:     client requests (intake), messages of peers (ordering), frames of domains (execution), hypervisor events.
Out:    replies that `T` domains agreed on, agreed entries, feed frames, suspend and resume of domains.
Owns:   everything that one server must believe; the rooms below own its parts, `manager_core` composes them.
Never:  interprets a request, reply, update or state part: they are opaque bytes.
Source: SPARE §4.3; design "Servers, domains, networks".

A request walks intake → ordering → cell → execution → (domain) → voting → intake and updates.
"""
