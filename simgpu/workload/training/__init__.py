"""One optimizer step: layers as blocks, blocks in a pipeline, gradients and weights on their way between ranks."""
