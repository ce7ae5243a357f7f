"""Interleavings that broke earlier drafts of the design, each as a scenario that fails when its rule is taken out.

`docs/testing.md` has the table: entry, test, rule.
"""
