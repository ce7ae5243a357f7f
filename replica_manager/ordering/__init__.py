"""The I/O half of agreement: time, disk and wire around the pure `agreement.node.Node`.

In:     entries to be ordered (from intake, faults, recovery), frames of other members.
Out:    deliveries in the agreed order, frames to other members, named events.
Owns:   the agreement log on disk, the links to the other members, the thread that syncs, the event-loop timers.
Never:  decides anything about order or membership, interprets a payload, trusts a byte before the peer proved its
        identity by its certificate.
Source: design "Agreement stage", "Servers, domains, networks"; RFC 8446 for TLS 1.3.

A frame is a msgpack array of messages (`peer_codec`); the order of work is fixed in `agreement_driver`:
persist, send, deliver, re-arm the timer.
"""
