"""Benchmarks for asv: time, memory, and above all the error against simulated truth."""
