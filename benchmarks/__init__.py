"""Every figure that the README and docs/benchmarks.md quote: `python -m benchmarks NAME [--json PATH]`."""
