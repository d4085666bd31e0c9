"""Contestants of the benchmarks, each in a process of its own, peers in a virtual environment of their own."""
