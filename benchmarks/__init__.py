"""How fast it is, measured in the worker as users run it. `python -m benchmarks --help`."""
