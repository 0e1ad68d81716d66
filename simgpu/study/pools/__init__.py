"""Workers that sweeps and searches share: processes of this machine (`processes`), or a Dask cluster (`dask_pool`).

`pool` says what a pool is, what a worker is told, and which pool a command asks for; `versions` tells whether workers
have the same simgpu.
"""
