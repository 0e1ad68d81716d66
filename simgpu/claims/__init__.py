"""Published claims held against arithmetic, datasheets, bounds and simulations."""
