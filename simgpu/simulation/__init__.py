"""The one call that answers, and what comes back: `call` for any job, `training`, `inference`, `result`."""
