"""Networks of stages: the job, the stacks that run it, and its passes on the engine."""
