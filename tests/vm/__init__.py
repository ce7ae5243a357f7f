"""Whole cells of real virtual machines on this machine, through the operator's commands (root, minutes)."""
