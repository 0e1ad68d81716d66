"""From a plan to the command, file or manifest that runs it, and from those back to an experiment."""
