"""A server request by request: a scheduler that batches continuously, fed with requests, on a table of step times."""
