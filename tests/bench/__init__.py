"""How near to instant we are: one run, one fresh PostgreSQL, the floor and the peers beside us."""
