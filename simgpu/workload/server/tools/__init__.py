"""Command lines of tools that load servers, and of servers, as keys of a scenario: one module for each tool."""
