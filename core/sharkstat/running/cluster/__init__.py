"""A run on the workers of a Dask cluster, which see the same files: the same tables as on one machine.

`parts`, `work` and `tasks` are what workers do; `reading` is this machine's side.
"""
