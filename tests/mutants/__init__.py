"""The guards, each taken out in a copy of the code, and the tests that must then fail."""
