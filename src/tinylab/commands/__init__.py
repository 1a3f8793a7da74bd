"""One small module a command; each has a ``main(arguments)``."""
