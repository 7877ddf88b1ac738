"""Benchmarks. Each says what it measured, on what, and against what."""
