"""Workers that sweeps and searches share: processes of this machine (`processes`), or a Dask cluster (`dask_pool`).

`pool` defines a pool and the setup of a worker, `where` which pool a command asks for, `versions` whether workers have
the same simgpu.
"""
