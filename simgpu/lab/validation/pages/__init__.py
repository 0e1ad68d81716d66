"""The pages of docs that `simgpu validate --page` writes: goals and what is reached, errors, and what is missing."""
