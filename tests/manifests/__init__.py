"""The files in `deploy/`, each checked by the tool of its kind. `tests/test_deploy.py` checks what needs no tool."""
