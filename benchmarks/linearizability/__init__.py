"""Linearizability: whether what clients saw of a service can have been one execution, one request at a time.

In:     histories: what was asked, when, what was answered and when; recorded live or by the simulator.
Out:    `Linearizable`, `NotLinearizable` with evidence, or `Unknown`, which no caller may take for success.
Owns:   the checker, the models of the services it knows, the file format of histories, a load that records them.
Never:  knows anything of the cell that is checked but its clients' view; nothing here is told the agreed order.
Source: design "Simulation and checkers"; Wing and Gong, "Testing and Verifying Concurrent Objects" (1993); Lowe,
        "Testing for Linearizability" (2017); Horn and Kroening, "Faster Linearizability Checking via
        P-Compositionality" (2015).

It lives with the measurements, not with the tests: load and checker are for real cells under faults, which
measurements run too; tests may import measurements, never the other way round; and these packages are type-checked.
"""
