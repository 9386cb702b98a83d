"""The parts of a model, p(z), p(x | z) and q(z | x): one piece per file, each forward returns a distribution."""
