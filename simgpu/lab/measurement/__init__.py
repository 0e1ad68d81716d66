"""Measuring a GPU for `simgpu calibrate`: the steps of `simgpu measure` on a machine with CUDA and PyTorch.

`operations` lists what to measure on a device, `backend` says what a machine must be able to do, `torch_backend` and
`ranks` do it with PyTorch, `table` keeps the CSV file, `run` measures what the file lacks, `device` names the GPU.
"""
