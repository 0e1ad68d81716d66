"""Which machine for a workload: ranks, reasons, how sure, what would change it."""
