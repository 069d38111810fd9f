"""The bench: how fast we react to a mint, compared with the floor and with peers, in one run on a fresh PostgreSQL."""
