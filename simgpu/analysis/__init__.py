"""What a finished run means: where its time goes, utilization, intervals, loads of links, comparisons."""
