# Pre-training of a 3D network: one job a method, recipe and seed.


use rule teacher as pretrain with:
    params:
        what=lambda w: experiment.runs[w.run].title,
        code=lambda w: experiment.code(w.run),
    wildcard_constraints:
        run=experiment.keys("pretrain"),
    log:
        RESULTS + "/logs/pretrain/{run}.log",
    benchmark:
        RESULTS + "/benchmarks/pretrain/{run}.jsonl"
    message:
        "Pre-train: {params.what} (progress: {log})"
