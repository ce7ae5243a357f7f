"""The agreement stage alone under virtual time: one seed, one schedule, checkers apart from the code.

In:     a seed.
Out:    a report, or the first violation found by a checker, with the seed and all drawn options.
Never:  uses a clock, a socket, a thread, or randomness that is not drawn from the seed.
Source: design "Simulation and checkers".
"""
