"""Workers are killed, stopped and cut off: `make test-kills`. It is not part of `make test`: it takes minutes."""
