"""Mutation testing: small mistakes, one at a time, and whether a test notices.

In:     the modules whose mistakes would be wrong votes or lost requests; the fast tests; the cell simulator.
Out:    `var/mutants/results.jsonl`, a line per mutant; `var/mutants/summary.md`; a score.
Owns:   the operators, the copies of the tree in which mutants run, what is known of which test reaches what.
Never:  changes the tree it is called in.
Source: `docs/decisions/0017-mutation-testing.md` says why this is no ready-made tool.
"""
