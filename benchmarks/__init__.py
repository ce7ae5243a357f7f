"""Measurements: one module per figure, each writes a JSON report under `var/bench/` with the command that made it.

In:     a configuration, a duration.
Out:    reports; ratios are taken side by side within one run, since machines are shared and noisy.
Owns:   load generation for the null service, the bare service to compare with; `linearizability`, which judges a load.
Never:  is imported by the product, but for the `bench` command.
"""
