"""The optimizers, one module each; ``training/optim.py`` builds them."""
