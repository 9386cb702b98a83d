"""taut: train latent-variable models and measure how tight their bounds are."""
