# Pre-training of a 3D network: one job a method, recipe and seed.


use rule teacher as pretrain with:
    log:
        "<logs>/pretrain/{run}.log",
    benchmark:
        "<benchmarks>/pretrain/{run}.jsonl"
    wildcard_constraints:
        run=experiment.keys("pretrain"),
    priority: 1  # before fine-tuning that does not wait for it
    params:
        what=lambda w: experiment.runs[w.run].title,
        code=lambda w: experiment.code(w.run),
    message:
        "Pre-train: {params.what} (progress: {log})"
