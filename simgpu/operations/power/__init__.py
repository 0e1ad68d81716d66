"""Watts beyond the GPU: nodes, racks, sites, fleets; energy and CO2 of runs. A GPU's own is `simgpu.analysis.power`."""
