"""One working piece of each interface, which ``taut new`` copies: short, and meant to be changed."""
