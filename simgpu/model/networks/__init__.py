"""Networks that are no language models: their graphs, built from the configuration files they are published with."""
