"""Output that people look at: tables, plots, traces, pictures of hardware."""
