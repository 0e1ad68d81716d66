"""What people look at: tables, plots, traces, pictures of hardware."""
