"""Networks from outside: files of ONNX and modules of PyTorch, read into lists of operators that the kernels know."""
