"""A local page on which a scenario is changed by hand and simulated at once (`simgpu ui`)."""
