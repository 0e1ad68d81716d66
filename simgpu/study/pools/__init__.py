"""Workers that sweeps and searches share: processes of this machine (`processes`), or a Dask cluster (`dask_pool`).

`pool` says what a pool is and what a worker is told, `where` which pool a command asks for, `versions` whether workers
have the same simgpu.
"""
