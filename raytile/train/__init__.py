"""What trains the built-in model: data, autoencoder, denoiser, release, figures."""
