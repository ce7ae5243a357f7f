"""Networks and keys: what has to exist before replica managers can talk.

In:     the configuration of a cell.
Out:    addresses, bridges, network namespaces of a one-machine cell, keys and certificates of the members.
Owns:   names `spare-<cell>-…` below `/run/netns`, everything inside those namespaces, the files in the key directory.
Never:  opens a socket of the protocol, talks to a domain, leaves a device in the machine's own namespace.
Source: SPARE §4.9.1.2; design "Servers, domains, networks".

`address_plan` is pure; `namespaces`, `bridges` and `local_cell` act on the kernel and block: call them from a plain
process or a worker thread, never inside a running event loop.
"""
