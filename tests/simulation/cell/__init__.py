"""A whole cell in one thread under virtual time, from one seed.

In:     a seed.
Out:    a report: what was drawn, what happened, which rule was broken.
Owns:   the virtual clock, network, disks, hypervisors and clients; checkers apart from them.
Never:  replaces a core: agreement's nodes and witnesses and `ManagerCore` run unchanged.
Source: design "Simulation and checkers".
"""
