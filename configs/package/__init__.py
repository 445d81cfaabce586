"""The packages in which people look for Parler, made from the registry of operations, the hosts and `pyproject.toml`.

    python -m configs.package [--out FOLDER] [NAME ...]

None of it is part of what is installed, except the start of the programs in `front`.
"""
