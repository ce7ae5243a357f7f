"""A layer around an ordinary wrapper that behaves well until a request tells it to misbehave.

In:     the requests and updates of an ordinary service, some of which carry an order (`orders`).
Out:    what the service answers, or what the order asks for instead.
Owns:   the orders that this domain was given, on its disk if it has a file for them.
Never:  changes what a domain does that no order names; part of an image without `fault_injection = true`.
Source: design "Fault model and promises"; `docs/testing.md`, "Treacherous domains".

It is a package of its own in a guest (`python3 -m treacherous`) and a part of this project outside of it: all imports
within it are relative.
"""
