"""Disks of servers that fill up, or lose what was not synced."""
