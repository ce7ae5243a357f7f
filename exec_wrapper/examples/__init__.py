"""Services wrapped as examples; `docs/wrap-your-service.md` walks through `key_value`.

In:     requests, updates and state parts through the `ServiceAdapter` border.
Out:    outcomes, state parts.
Owns:   the key-value store that tests and micro-benchmarks run in their domains.
Never:  talks to a link; imports anything but the standard library.
Source: design "Service adapter".
"""
