"""One file per system that `benchmarks training` measures; each runs in an environment of its own and prints one line of JSON."""
