"""What tables of one kind of measurement share: how their rows become calls of a model.

    gemm           matrix multiplications, with what the way of measuring adds
    attention      prefill and decode in a named library
    streams        normalisation, softmax, activation, RoPE, copies ...
    collectives    rows by link and group of GPUs, on the cluster that they ran on
    training       whole training steps: a row in words (`training_steps`), its prediction (`training_prediction`)
    inference      whole inference runs: a row in words (`inference_runs`), its prediction (`inference_prediction`)
    models         models by the shape that a row states
    reader         the cells of one row

Nothing here knows a table by its name: that is for the modules of `simgpu.lab.validation.sources`.
"""
