"""Tests of the agreement stage with plain values, and a cell whose messages are handed over one by one."""
